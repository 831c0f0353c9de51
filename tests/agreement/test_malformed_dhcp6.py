"""Spoiled frames for the DHCPv6 server and its relay agent: nothing leaves but a right answer to who asked.

Those that Python would read are read there, too: what it says of them is no frame that is longer than a device takes,
and a lease has one holder, whatever was asked.
"""
from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from iovisor.compiler.cache import Cache
from iovisor.functions.dhcp6 import Asked, Dhcp6
from iovisor.language import Function, Packet, Verdict, ipv6_address, mac_address
from iovisor.language.verdicts import DROP_KIND, FORWARD_KIND
from iovisor.testing import Arrival
from iovisor.wire.ipv6 import link_local
from tests.agreement.malformed import Judge, Subject, examine, read, spoiled
from tests.functions.dhcp6 import CLIENT, MAC, SERVER, D, asked, framed, message, na, pd, relayed, server, wish
from tests.functions.test_dhcp6_frames import pings, solicitations
from tests.functions.test_dhcp6_relay import OWN, OWN_LINK, OWN_MAC, located, relay, reply_for, said_by_server

SOME, MILLION = 6_000, 1_000_000


def answering(mac: str, *addresses: int) -> Callable[[], Judge]:
    """What leaves is an advertisement or echo reply of the station's own, to who asked; what goes up is as it came."""
    own = {address.to_bytes(16, "big") for address in addresses}
    hardware = mac_address(mac).to_bytes(6, "big")

    def judge(arrival: Arrival, verdict: Verdict, frame: bytes) -> str | None:
        if verdict.kind != FORWARD_KIND:
            return None if frame == arrival.frame or verdict.kind == DROP_KIND else "it was altered"
        came, left = read(arrival.frame), read(frame)
        if came.fault or came.tags or len(left.transport) < 8:
            return f"it was answered, and should not have passed: {came.fault or 'it is tagged'}"
        if left.source != hardware or left.addresses[0] not in own or left.protocol != 58:
            return "it is not of this station"
        if left.transport[0] == 129:
            asker, echo = came.addresses[0], came.transport
            return None if (left.addresses[1], left.transport[4:]) == (asker, echo[4:]) and (
                left.destination == came.source) else "no reply to this echo"
        if left.transport[0] != 136 or left.transport[8:24] != left.addresses[0]:
            return "it says nothing that was asked"
        return None if left.addresses[1] in (came.addresses[0], ipv6_address("ff02::1").to_bytes(16, "big")) else \
            "it goes to nobody who asked"
    return lambda: judge


def serving() -> list[bytes]:
    said = [message(D.SOLICIT, na(), pd(), wish(23, 24)), message(D.REQUEST, na(1, "2001:db8:1::103")),
            message(D.RENEW, na()), message(D.INFORMATION_REQUEST, wish(23, 32))]
    near = [framed(one) for one in said]
    return [*near, framed(relayed(said[0], "2001:db8:9::1", link_local(CLIENT), (18, b"port")), dst=SERVER, port=547)]


SERVED = [*serving(), *solicitations(MAC, ipv6_address(SERVER))[:5], *pings(MAC, ipv6_address(SERVER))[::2]]
RELAYED = [asked(D.SOLICIT, na()), located(), said_by_server(reply_for(link_local(CLIENT), message(D.REPLY))),
           *solicitations(OWN_MAC, ipv6_address(OWN))[:5], *pings(OWN_MAC, ipv6_address(OWN))[::2]]


def subject(make: Callable[[], Function], frames: list[bytes], judge: Callable[[], Judge]) -> Subject:
    arrivals = [Arrival(frame, 0) for frame in frames]
    return Subject(make, arrivals, arrivals, arrivals, judge=judge)


SUBJECTS = {
    "dhcp6": subject(server, SERVED, answering(MAC, ipv6_address(SERVER), link_local(mac_address(MAC)))),
    "dhcp6_relay": subject(relay, RELAYED, answering(OWN_MAC, ipv6_address(OWN), OWN_LINK))}


@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_comes_of_it(name: str, tmp_path_factory: pytest.TempPathFactory, nightly: bool) -> None:
    tally = examine(SUBJECTS[name], MILLION if nightly else SOME, Cache(tmp_path_factory.mktemp("images")))
    assert tally.total() == (MILLION if nightly else SOME)
    passed = sum(count for verdict, count in tally.items() if not verdict.startswith("drop"))
    assert passed > tally.total() // 20, f"too little was tried that could go either way: {tally}"


def test_python_reads_them_too(nightly: bool) -> None:
    random, dhcp = Random("dhcp6"), server()
    said = 0
    for _ in range(100_000 if nightly else 3_000):
        frame = spoiled(random, random.choice(SERVED[:5]))
        if len(frame) < 14:
            continue
        verdict = dhcp.run(Packet(frame, 0))
        if isinstance(verdict.event, Asked):
            dhcp.heard(verdict.event, Packet(frame, 0))
            said += len(dhcp.outbox)
            assert all(len(reply) <= 1514 for _, reply in dhcp.outbox)
            dhcp.outbox.clear()
            assert len(dhcp.associations) == len(dhcp.holders)
    assert said > 100 and isinstance(dhcp, Dhcp6)
