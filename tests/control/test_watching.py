"""Packets seen over the API: described, watched, counted and captured; what is said of them is so."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI

from iovisor.cli.watching import busiest
from iovisor.control import access, watching
from iovisor.control.api import application
from iovisor.control.platform import Platform
from iovisor.control.views import Look
from iovisor.wire.described import described
from tests.control.asking import ROOT, ask
from tests.control.conftest import Platforms, apply
from tests.fabric.hosts import Place
from tests.waiting import until

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
TEXT = """
version: 1
tenant: acme
network: prod
functions:
  lan: switch
  wall: {kind: acl, default: accept, other: accept, rules: [{action: drop, protocol: udp, destination_ports: 53}]}
endpoints:
  one: {device: p0, mac: '02:00:00:00:00:01', addresses: [10.0.0.1/24]}
  two: {device: p1, mac: '02:00:00:00:00:02', addresses: [10.0.0.2/24]}
links: [[one, lan], [two, wall, lan]]
"""
HERE = "/v1/tenants/acme/networks/prod"


@pytest.fixture
def shop(place: Places, platform: Platforms) -> Iterator[tuple[FastAPI, Platform, Place]]:
    at = place(2)
    here = platform(at)
    apply(here, TEXT)
    yield application(here), here, at


def send(at: Place, said: str, times: int = 1) -> bytes:
    frame = described(said).frame(0x020000000001, 0x020000000002)
    for _ in range(times):
        at.hosts[0].socket.send(frame)
    return frame


def test_a_packet_in_words_is_traced_and_explained(shop: tuple[FastAPI, Platform, Place]) -> None:
    app, _, at = shop

    def traced(packet: str, status: int = 200) -> dict[str, object]:
        answer = ask(app, "POST", f"{HERE}/trace", {"at": "one", "packet": packet}, peer=ROOT)
        assert answer.status == status, answer
        body: dict[str, object] = answer.body
        return body
    good = traced("tcp 10.0.0.1:1000 > 10.0.0.2:80 syn")
    frame = good["document"]["frame"]  # type: ignore[index]
    assert bytes.fromhex(frame)[:12] == b"\2\0\0\0\0\2\2\0\0\0\0\1"      # whose addresses the document knows
    assert any("leaves by wall:" in line or "leaves by lan:" in line for line in good["why"])  # type: ignore[attr-defined]
    bad = traced("udp 10.0.0.1:1000 > 10.0.0.2:53")
    lines: list[str] = bad["why"]  # type: ignore[assignment]
    assert any(line.startswith("dropped by wall: ") and "acl" in line for line in lines), lines
    assert "names no port" in str(traced("udp 10.0.0.1 > 10.0.0.2:53", 422)["detail"])
    frame = send(at, "udp 10.0.0.1:1000 > 10.0.0.2:53")                  # and so it is
    send(at, "tcp 10.0.0.1:1000 > 10.0.0.2:80 syn")
    arrived = at.hosts[1].captured(1)
    assert [one for one in arrived if one[12:14] == b"\x08\0"] and frame not in arrived


def test_packets_are_watched_as_they_go_by(shop: tuple[FastAPI, Platform, Place]) -> None:
    app, here, at = shop
    look = Look(here, "acme", "prod")
    with watching.watch(look, {"verdict": "drop"}) as read:
        send(at, "udp 10.0.0.1:1000 > 10.0.0.2:53", 3)
        send(at, "udp 10.0.0.1:1000 > 10.0.0.2:80", 3)
        found: list[dict[str, object]] = []

        def three() -> bool:
            found.extend(map(watching.told, read()))
            return len(found) >= 3
        assert until(three)
        assert {(one["at"].partition(":")[0], one["kind"]) for one in found} == {("wall", "drop")}  # type: ignore[attr-defined]
        assert "udp(src=1000, dst=53)" in str(found[0]["packet"]) and len(found) == 3
        with watching.watch(look, {"verdict": "forward"}) as other:         # two look at once, each for what it asked
            send(at, "udp 10.0.0.1:1000 > 10.0.0.2:53", 1)
            send(at, "udp 10.0.0.1:1000 > 10.0.0.2:80", 1)
            passed: list[dict[str, object]] = []

            def both() -> bool:
                found.extend(map(watching.told, read()))
                passed.extend(map(watching.told, other()))
                return len(found) >= 4 and len(passed) >= 1
            assert until(both)
            assert {one["kind"] for one in found} == {"drop"} and "drop" not in {one["kind"] for one in passed}
    answer = ask(app, "GET", f"{HERE}/watch?verdict=drop", peer=ROOT)
    assert answer.kind.startswith("text/event-stream") and answer.raw.startswith(b": watching\n\n")
    for query, status in (("verdict=fly", 422), ("function=none", 422), ("address=nowhere", 422), ("vlan=9999", 422)):
        assert ask(app, "GET", f"{HERE}/watch?{query}", peer=ROOT).status == status, query


def test_flows_are_counted_where_they_come_in(shop: tuple[FastAPI, Platform, Place]) -> None:
    app, _, at = shop
    stop = threading.Event()

    def sending() -> None:
        while not stop.wait(0.02):
            send(at, "udp 10.0.0.1:1000 > 10.0.0.2:53", 2)
            send(at, "tcp 10.0.0.1:1000 > 10.0.0.2:80 size 1000")
    thread = threading.Thread(target=sending)
    thread.start()
    try:
        found = ask(app, "GET", f"{HERE}/flows?seconds=0.5", peer=ROOT).body
    finally:
        stop.set()
        thread.join()
    flows = {(one["at"], one["flow"]): one for one in found}
    tcp = flows["lan:0", "tcp 10.0.0.1:1000 > 10.0.0.2:80"]
    udp = flows["lan:0", "udp 10.0.0.1:1000 > 10.0.0.2:53"]
    assert udp["packets"] > tcp["packets"] > 1 and tcp["bytes"] > 1000 * tcp["packets"]
    assert found[0] is tcp or found[0]["bytes"] >= tcp["bytes"]
    assert {at for at, _ in flows} <= {"lan:0", "wall:inside"}          # the hosts answer


def test_a_capture_is_a_file_for_wireshark(shop: tuple[FastAPI, Platform, Place]) -> None:
    app, here, at = shop
    token = access.issue(here.records, "x", "viewer", "acme")[0]
    assert ask(app, "GET", f"{HERE}/capture?port=one", token=token).status == 403
    assert ask(app, "GET", f"{HERE}/capture?port=none:3", peer=ROOT).status == 422
    pieces = watching.capture(Look(here, "acme", "prod"), "one", 1.5, 1000)
    sent = [send(at, f"tcp 10.0.0.1:{1000 + number} > 10.0.0.2:80") for number in range(4)]
    data = b"".join(pieces)
    assert data[:4] == b"\x0a\x0d\x0d\x0a" and all(frame[:54] in data for frame in sent)
    exact = ask(app, "GET", f"{HERE}/balance", peer=ROOT).body
    assert exact["holds"] and exact["in"]["received"] >= 4 and "balanced" in exact["text"]


def test_a_watch_that_nobody_reads_ends_with_its_network(shop: tuple[FastAPI, Platform, Place]) -> None:
    _, here, at = shop
    look = Look(here, "acme", "prod")
    with watching.watch(look, {}) as read:
        send(at, "udp 10.0.0.1:1000 > 10.0.0.2:80")
        assert until(lambda: bool(read()))
        apply(here, TEXT.replace("53", "54"))               # a change meanwhile
        send(at, "udp 10.0.0.1:1000 > 10.0.0.2:80")
        here.destroy(access.Principal("x", "admin"), "acme", "prod")


def test_the_busiest_ports_come_first() -> None:
    def reading(one: int, two: int, drops: int) -> dict[str, object]:
        ports = {name: {"received": count, "sent": 0, "received bytes": 1000 * count, "sent bytes": 0}
                 for name, count in (("lan:0", one), ("lan:1", two), ("lan:2", 0))}
        return {"ports": ports, "drops": {"wall": {"DENIED": drops}}}
    told = busiest(reading(10, 50, 3), reading(0, 0, 1), 2.0, 20).splitlines()
    assert [line.split()[0] for line in told[1:3]] == ["lan:1", "lan:0"] and told[1].split()[1] == "25"
    assert told[-1].split() == ["wall", "DENIED", "2"] and not any("lan:2" in line for line in told)
