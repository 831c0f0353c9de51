"""The name server asked by dig and dnsperf, in two networks with the same addresses, and with a resolver behind it."""
from __future__ import annotations

import contextlib
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iovisor.fabric import Edge, Network, stack
from iovisor.functions.dns import Dns
from iovisor.functions.switch import Switch
from iovisor.testing import Host, Lab
from iovisor.wire import dns as wire
from tests.fabric.serving import served
from tests.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

CONFIG: dict[str, Any] = {"server": "10.0.0.53", "server6": "fd00::53", "mac": "02:00:00:00:00:53"}


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is missing: ./bootstrap installs it"
    return found


def dig(host: Host, *words: str, server: str = "10.0.0.53") -> str:
    return host.run([program("dig"), f"@{server}", "+tries=5", "+timeout=5", *words], timeout=60).stdout


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as found:
        yield found


def test_two_tenants_ask_for_the_same_name(lab: Lab) -> None:
    a, b = lab.hosts("a", "b")
    names = [{"web": ["10.0.0.5", "fd00::5"]}, {"web": ["192.0.2.5"]}]
    one, other = (lab.join(Dns(**CONFIG, domain="acme.internal", names=own), [host])
                  for host, own in zip((a, b), names, strict=True))
    with served(one.network), served(other.network):
        for server in ("10.0.0.53", "fd00::53"):
            assert dig(a, "+short", "web.acme.internal", server=server) == "10.0.0.5\n"
            assert dig(a, "+short", "web.acme.internal", "AAAA", server=server) == "fd00::5\n"
            assert dig(b, "+short", "web.acme.internal", server=server) == "192.0.2.5\n"
        assert dig(a, "+short", "-x", "10.0.0.5") == dig(a, "+short", "-x", "fd00::5") == "web.acme.internal.\n"
        assert "status: NXDOMAIN" in dig(a, "nobody.acme.internal")
        assert "status: REFUSED" in dig(a, "example.com")
        assert "status: REFUSED" in dig(a, "web.acme.internal", "ANY", "+notcp")
        assert "status: REFUSED" in dig(b, "-x", "10.0.0.5")
        assert a.ping("10.0.0.53", count=1) == a.ping("fd00::53", count=1, six=True) == 1


def test_its_own_names_are_said_with_nobody_serving(lab: Lab) -> None:
    """The kernel knows them, ARP and discovery included."""
    (a,) = lab.hosts("a")
    lab.join(Dns(**CONFIG, domain="acme.internal", names={"web": ["10.0.0.5", "fd00::5"]}), [a])
    for server in ("10.0.0.53", "fd00::53"):
        assert dig(a, "+short", "Web.ACME.internal", server=server) == "10.0.0.5\n"
        assert dig(a, "+short", "-x", "fd00::5", server=server) == "web.acme.internal.\n"


def test_dnsperf_loses_nothing(lab: Lab, tmp_path: Path, nightly: bool) -> None:
    """As many questions as there are, a few at a time: every one is answered, with what it should be."""
    (a,) = lab.hosts("a")
    count = 20_000 if nightly else 2_000
    path = tmp_path / "questions"
    path.write_text("".join(f"n{n % 100}.acme.internal {'A' if n % 3 else 'AAAA'}\n" for n in range(count)))
    names = {f"n{n}": [f"10.0.1.{n}", f"fd00:1::{n:x}"] for n in range(100)}
    with served(lab.join(Dns(**CONFIG, domain="acme.internal", names=names), [a]).network):
        done = a.run([program("dnsperf"), "-s", "10.0.0.53", "-d", str(path), "-n", "1", "-q", "20"], timeout=60).stdout
    completed = re.search(r"Queries completed:\s+(\d+)", done)
    codes = re.search(r"Response codes:\s+NOERROR (\d+)", done)
    assert completed is not None and codes is not None and int(completed[1]) == int(codes[1]) == count, done


MANY = {"many": [f"10.1.0.{n}" for n in range(1, 51)], "web": ["10.0.0.5"],
        "huge": [f"fd00:1::{n:x}" for n in range(2_000)]}


def test_over_tcp(lab: Lab) -> None:
    """What dig is told is truncated (900 bytes for 512) it asks for again by TCP, and gets."""
    (a,) = lab.hosts("a")
    with served(lab.join(Dns(**CONFIG, domain="acme.internal", names=MANY), [a]).network):
        for server in ("10.0.0.53", "fd00::53"):
            cut = dig(a, "+bufsize=512", "+ignore", "many.acme.internal", server=server)
            assert re.search(r"flags: [^;]*\btc\b", cut) and "ANSWER: 0" in cut
            whole = dig(a, "+bufsize=512", "many.acme.internal", server=server)
            assert "(TCP)" in whole and "ANSWER: 50" in whole and "10.1.0.50" in whole
            assert dig(a, "+tcp", "+short", "web.acme.internal", server=server) == "10.0.0.5\n"
            assert len(dig(a, "+tcp", "+short", "huge.acme.internal", "AAAA", server=server).split()) == 2_000
            assert "Transfer failed" in dig(a, "AXFR", "acme.internal", server=server)


def connected(host: Host, server: str = "10.0.0.53") -> socket.socket:
    made = host.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.settimeout(20)
        made.connect((server, wire.PORT))
    except BaseException:
        made.close()
        raise
    return made


def test_the_stack_has_bounds_and_an_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One peer has so many connections and no more, others have theirs; and when all are gone so is the room."""
    monkeypatch.setattr(stack, "IDLE", 0.3)
    a, b = lab.hosts("a", "b")
    dns = Dns(**CONFIG, domain="acme.internal", names=MANY)
    with Network("names", namespace=lab.namespace) as net:
        net.add("lan", Switch())
        net.add("dns", dns)
        net.attach_all({"lan:0": Edge(a.index), "lan:1": Edge(b.index)})
        net.link("lan:2", "dns:lan")
        with ExitStack() as undo, served(net):
            opened = [undo.enter_context(connected(a)) for _ in range(stack.MOST_OF_ONE)]
            assert until(lambda: len(dns.stack._talks) == len(opened))      # type: ignore[union-attr]
            one_more = undo.enter_context(a.socket(socket.AF_INET, socket.SOCK_STREAM))
            one_more.settimeout(20)
            with pytest.raises(ConnectionError):
                one_more.connect(("10.0.0.53", wire.PORT))
                one_more.recv(1)                                            # reset, now or a moment later
            assert dig(b, "+tcp", "+short", "web.acme.internal") == "10.0.0.5\n"
            for each in (*opened, one_more):
                each.close()
            assert dig(a, "+tcp", "+short", "web.acme.internal") == "10.0.0.5\n"
            assert until(lambda: dns.stack._room is None)                   # type: ignore[union-attr]
            assert dig(a, "+tcp", "+short", "web.acme.internal") == "10.0.0.5\n"
            undo.enter_context(connected(b))                                # ends with who serves it


class Upstream:
    """A resolver that knows one address for everything."""

    def __init__(self, host: Host) -> None:
        self.socket = host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host.ipv4, wire.PORT))
        self.host, self.listening = host, host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listening.bind((host.ipv4, wire.PORT))
        self.listening.listen()
        self.long = threading.Thread(target=self.serve_long)
        self.long.start()
        self.asked: list[wire.Name] = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            data, sender = self.socket.recvfrom(2_000)
            if not data:
                return
            query = wire.read_query(data)
            self.asked.append(query.name)
            found = wire.Answer(records=[wire.Record(wire.Type.A, 60, bytes([203, 0, 113, 9]))])
            self.socket.sendto(wire.write(query, found, True), sender)

    def serve_long(self) -> None:
        """Over TCP it knows more."""
        while True:
            with contextlib.suppress(OSError), self.listening.accept()[0] as connection:
                connection.settimeout(20)
                data = connection.recv(2_000)
                if not data:
                    return
                query = replace(wire.read_query(data[2:]), room=1 << 16)
                found = wire.Answer(records=[wire.Record(wire.Type.A, 60, bytes([203, 0, 113, n])) for n in range(250)])
                reply = wire.write(query, found, True)
                connection.sendall(len(reply).to_bytes(2, "big") + reply)

    def close(self) -> None:
        with self.host.socket(socket.AF_INET, socket.SOCK_STREAM) as end:
            end.connect(self.listening.getsockname())
        self.long.join()
        self.listening.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM):
            self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


def test_the_rest_is_asked_elsewhere(lab: Lab) -> None:
    a, b = lab.hosts("a", "b")
    with Network("names", namespace=lab.namespace) as net:
        net.add("lan", Switch())
        net.add("dns", Dns(**CONFIG, domain="acme.internal", names={"web": ["10.0.0.5"]}, forwarder=b.ipv4))
        net.attach_all({"lan:0": Edge(a.index), "lan:1": Edge(b.index)})
        net.link("lan:2", "dns:lan")
        upstream = Upstream(b)
        try:
            with served(net):
                for server in ("10.0.0.53", "fd00::53"):
                    assert dig(a, "+short", "Example.com", server=server) == "203.0.113.9\n"
                    many = dig(a, "+tcp", "Example.com", server=server)
                    assert "ANSWER: 250" in many and "203.0.113.249" in many
                assert dig(a, "+short", "web.acme.internal") == "10.0.0.5\n"
        finally:
            upstream.close()
        assert set(upstream.asked) == {(b"example", b"com")}
