"""The DHCPv6 server, in plain CPython: every message a client can send, as frames, and what comes back."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iovisor.functions.dhcp6 import Reason
from iovisor.language import SECOND, Clock, ConfigError, Packet, drop, forward, ipv6_address, mac_address
from iovisor.parts.asking import icmp6, is_right6, solicitation
from iovisor.wire import dhcp6 as wire
from iovisor.wire.dhcp6 import Status
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.icmp6 import Icmp6Echo
from iovisor.wire.ipv6 import IPv6, link_local
from iovisor.wire.neighbor import NeighborAdvertisement
from tests.functions.dhcp6 import (
    CLIENT,
    FAR,
    MAC,
    OTHER,
    SERVER,
    SERVER_DUID,
    SERVER_LINK,
    STATELESS,
    SUBNET,
    D,
    R,
    asked,
    framed,
    lease,
    message,
    must,
    na,
    pd,
    relayed,
    server,
    tell,
    v6,
    wish,
)

UUID = bytes.fromhex("00040102030405060708090a0b0c0d0e0f10")
POOL = {f"2001:db8:1::{n}" for n in (100, 102, 103)}            # .101 is somebody's


@pytest.fixture(autouse=True)
def clock() -> Iterator[None]:
    Clock.stand(10**15)
    yield
    Clock.run()


def test_the_four_messages() -> None:
    dhcp = server()
    offer = must(dhcp, asked(D.SOLICIT, na(7)))
    (association,) = offer.associations
    (given,) = offer.lent
    assert offer.kind == D.ADVERTISE and given in POOL and association.id == 7
    assert (association.renewal, association.rebinding) == (1125, 1800)
    assert (association.lent[0].preferred, association.lent[0].valid) == (2250, 3600)
    assert (offer.eth.dst, offer.ip.src, offer.ip.dst, offer.udp.dst) == (CLIENT, SERVER_LINK, link_local(CLIENT), 546)
    assert offer.option(R.CLIENT) == wire.duid_of(CLIENT) and offer.codes == [R.SERVER, R.CLIENT, R.IA_NA]
    reply = must(dhcp, asked(D.REQUEST, association.option()))
    assert (reply.kind, reply.lent) == (D.REPLY, [given])
    assert dhcp.show() == [{"address": given, "mac": "02:00:00:00:00:01", "duid": "00030001020000000001",
                            "association": 7, "state": "bound", "seconds": 3600}]
    assert [dhcp.asked.read(kind).packets for kind in (D.SOLICIT, D.REQUEST)] == [1, 1]
    assert [dhcp.told.read(kind).packets for kind in (D.ADVERTISE, D.REPLY)] == [1, 1]


def test_wishes_are_met_in_their_order_and_no_others() -> None:
    dhcp = server(sol_max_rt="1h", inf_max_rt="2h", preference=9)
    offer = must(dhcp, asked(D.SOLICIT, na(), wish(R.SEARCH, 200, R.NAME_SERVERS, R.SEARCH, R.SOL_MAX_RT)))
    assert offer.codes == [R.SERVER, R.CLIENT, R.IA_NA, R.PREFERENCE, R.SEARCH, R.NAME_SERVERS, R.SOL_MAX_RT]
    assert offer.option(R.SEARCH) == b"\4acme\4test\0\7example\3org\0" and offer.option(R.PREFERENCE) == b"\x09"
    assert offer.option(R.NAME_SERVERS) == v6("2001:db8:1::53") + v6("2001:db8::53")
    assert offer.option(R.SOL_MAX_RT) == (3600).to_bytes(4, "big")
    reply = must(dhcp, asked(D.REQUEST, *(one.option() for one in offer.associations),
                             wish(R.NTP, R.SNTP, R.REFRESH, R.INF_MAX_RT)))
    assert reply.codes == [R.SERVER, R.CLIENT, R.IA_NA, R.NTP, R.SNTP, R.INF_MAX_RT]
    assert reply.option(R.NTP) == b"\0\1\0\x10" + v6("2001:db8:1::123")
    assert reply.option(R.SNTP) == v6("2001:db8:1::123")


def test_stateless() -> None:
    dhcp = server()
    wanted = wish(R.NAME_SERVERS, R.REFRESH)
    reply = must(dhcp, asked(D.INFORMATION_REQUEST, wanted))
    assert (reply.kind, reply.codes) == (D.REPLY, [R.SERVER, R.CLIENT, R.NAME_SERVERS, R.REFRESH])
    assert reply.option(R.REFRESH) == (7200).to_bytes(4, "big")
    assert must(dhcp, asked(D.INFORMATION_REQUEST, wanted, duid=b"")).codes == [R.SERVER, R.NAME_SERVERS, R.REFRESH]
    assert must(dhcp, asked(D.INFORMATION_REQUEST, wanted, to=SERVER_DUID)).kind == D.REPLY
    assert tell(dhcp, asked(D.INFORMATION_REQUEST, wanted, to=b"\0\3\0\1other!")) is None
    assert tell(dhcp, asked(D.INFORMATION_REQUEST, na())) is None
    assert dhcp.show() == []


def test_an_association_is_a_lease() -> None:
    dhcp = server()
    first, second = lease(dhcp, CLIENT, na(1), na(2))
    assert first != second and {first, second} < POOL
    assert [row["association"] for row in sorted(dhcp.show(), key=lambda row: row["association"])] == [1, 2]
    assert lease(dhcp, CLIENT, na(2)) == [second]
    (third,) = lease(dhcp, CLIENT, na(3))
    assert {first, second, third} == POOL
    offer = must(dhcp, asked(D.SOLICIT, na(1), na(4)))
    assert offer.lent == [first] and offer.statuses == [None, Status.NO_ADDRESSES]


def test_rapid_commit_is_for_those_who_ask_where_it_is_allowed() -> None:
    rapid = (R.RAPID_COMMIT, b"")
    dhcp = server(rapid=True)
    reply = must(dhcp, asked(D.SOLICIT, na(), rapid))
    assert reply.kind == D.REPLY and reply.option(R.RAPID_COMMIT) == b"" and dhcp.show()[0]["state"] == "bound"
    assert must(dhcp, asked(D.SOLICIT, na(), mac=OTHER)).kind == D.ADVERTISE
    assert must(server(), asked(D.SOLICIT, na(), rapid)).kind == D.ADVERTISE


def test_a_client_gets_what_it_had() -> None:
    dhcp = server()
    (first,), (second,) = lease(dhcp), lease(dhcp, OTHER)
    assert first != second and lease(dhcp) == [first]
    reply = must(dhcp, asked(D.RELEASE, na(1, first)))
    assert (reply.kind, reply.status, reply.associations) == (D.REPLY, Status.SUCCESS, [])
    (third,) = lease(dhcp, 3)
    assert {first, second, third} == POOL                           # what nobody had, before what somebody may want
    assert lease(dhcp) == [first]
    Clock.advance(3601 * SECOND)
    assert lease(dhcp) == [first]


def test_reservations() -> None:
    dhcp = server()
    llt = bytes.fromhex("00010001aabbccdd") + (0x02_00_00_00_00_07).to_bytes(6, "big")
    assert lease(dhcp, 0x02_00_00_00_00_07) == ["2001:db8:1::7"]
    assert lease(dhcp, OTHER, duid=UUID) == ["2001:db8:1::101"]
    assert lease(server(), OTHER, duid=llt) == ["2001:db8:1::7"]
    fresh = server()
    assert lease(fresh, 0x02_00_00_00_00_07, na(1), na(2))[0] == "2001:db8:1::7"
    assert lease(fresh, 7) != ["2001:db8:1::7"]


def test_a_wish_for_an_address() -> None:
    dhcp = server()
    assert must(dhcp, asked(D.SOLICIT, na(1, "2001:db8:1::103"))).lent == ["2001:db8:1::103"]
    assert must(dhcp, asked(D.SOLICIT, na(1, "2001:db8:1::103"), mac=OTHER)).lent != ["2001:db8:1::103"]
    assert must(dhcp, asked(D.SOLICIT, na(1, "2001:db8:1::101"), mac=3)).lent != ["2001:db8:1::101"]


def test_an_address_of_another_link_is_refused() -> None:
    dhcp = server()
    reply = must(dhcp, asked(D.REQUEST, na(1, "2001:db8:9::1000"), na(2)))
    assert reply.statuses == [Status.NOT_ON_LINK, None] and len(reply.lent) == 1


def test_confirm() -> None:
    dhcp = server()
    here, away = na(1, "2001:db8:1::100"), na(2, "2001:db8:77::1")
    assert must(dhcp, asked(D.CONFIRM, here)).status == Status.SUCCESS
    assert must(dhcp, asked(D.CONFIRM, here, away)).status == Status.NOT_ON_LINK
    assert tell(dhcp, asked(D.CONFIRM, na())) is None
    assert dhcp.show() == []


def test_renewing_and_rebinding() -> None:
    dhcp = server()
    (address,) = lease(dhcp)
    for kind in (D.RENEW, D.REBIND):
        Clock.advance(1125 * SECOND)
        reply = must(dhcp, asked(kind, na(1, address)))
        assert (reply.kind, reply.lent, reply.statuses) == (D.REPLY, [address], [None])
        assert dhcp.show()[0]["seconds"] == 3600
    assert must(dhcp, asked(D.RENEW, na(9, address), mac=OTHER)).statuses == [Status.NO_BINDING]
    assert tell(dhcp, asked(D.REBIND, na(9, address), mac=OTHER)) is None           # another server may know it
    reply = must(dhcp, asked(D.REBIND, na(9, "2001:db8:77::1"), mac=OTHER))
    assert (reply.lent, reply.gone) == ([], ["2001:db8:77::1"])
    reply = must(dhcp, asked(D.RENEW, na(1, address, "2001:db8:1::77")))
    assert (reply.lent, reply.gone) == ([address], ["2001:db8:1::77"])


def test_what_was_offered_or_released_is_not_renewed() -> None:
    dhcp = server()
    (address,) = must(dhcp, asked(D.SOLICIT, na())).lent
    assert must(dhcp, asked(D.RENEW, na(1, address))).statuses == [Status.NO_BINDING]
    assert lease(dhcp) == [address]
    must(dhcp, asked(D.RELEASE, na(1, address)))
    assert must(dhcp, asked(D.RENEW, na(1, address))).statuses == [Status.NO_BINDING]
    assert must(dhcp, asked(D.RELEASE, na(1, address))).statuses == [Status.NO_BINDING]


def test_an_address_that_is_not_given_any_more_is_replaced() -> None:
    dhcp = server()
    (address,) = lease(dhcp)
    dhcp.reconfigure(subnets=[{**SUBNET, "pools": ["2001:db8:1::2000-2001:db8:1::2fff"]}])
    reply = must(dhcp, asked(D.RENEW, na(1, address)))
    (other,) = reply.lent
    assert reply.gone == [address] and ipv6_address("2001:db8:1::2000") <= ipv6_address(other)
    assert [row["address"] for row in dhcp.show()] == [other]
    dhcp.reconfigure(subnets=[{**SUBNET, "pools": []}], reservations=[])
    reply = must(dhcp, asked(D.RENEW, na(1, other)))
    assert (reply.lent, reply.gone) == ([], [other])


def test_declined_addresses_are_left_alone() -> None:
    dhcp = server()
    (address,) = lease(dhcp)
    reply = must(dhcp, asked(D.DECLINE, na(1, address)))
    assert (reply.status, reply.associations) == (Status.SUCCESS, [])
    assert dhcp.show() == [{"address": address, "mac": "00:00:00:00:00:00", "duid": "", "association": 0,
                            "state": "refused", "seconds": 86400}]
    assert lease(dhcp) != [address]
    assert must(dhcp, asked(D.DECLINE, na(1, "2001:db8:1::103"), mac=OTHER)).statuses == [Status.NO_BINDING]
    Clock.advance(86401 * SECOND)
    assert must(dhcp, asked(D.SOLICIT, na(1, address), mac=3)).lent == [address]


def test_release_is_for_the_holder() -> None:
    dhcp = server()
    (address,) = lease(dhcp)
    assert must(dhcp, asked(D.RELEASE, na(1, address), mac=OTHER)).statuses == [Status.NO_BINDING]
    assert must(dhcp, asked(D.RELEASE, na(1, "2001:db8:1::1"))).statuses == []
    assert dhcp.show()[0]["state"] == "bound"
    assert dhcp.release(address) and not dhcp.release("2001:db8:1::1")
    assert dhcp.show()[0]["state"] == "free"


@pytest.mark.parametrize(("kind", "more"), [
    (D.SOLICIT, {"duid": b""}), (D.SOLICIT, {"to": SERVER_DUID}), (D.SOLICIT, {"duid": bytes(131)}),
    (D.SOLICIT, {"duid": b"\0\3"}), (D.REQUEST, {"to": b""}), (D.REQUEST, {"to": b"\0\3\0\1other!"}),
    (D.RENEW, {"duid": b""}), (D.REBIND, {"to": SERVER_DUID}), (D.CONFIRM, {"to": SERVER_DUID}),
    (D.RELEASE, {"to": b""}), (D.DECLINE, {"to": b"\0\3\0\1other!"}),
    (D.ADVERTISE, {}), (D.REPLY, {}), (D.RECONFIGURE, {}), (D.RELAY_REPLY, {}), (0, {}), (99, {}),
    (D.SOLICIT, {"dst": SERVER}), (D.CONFIRM, {"dst": SERVER}), (D.REBIND, {"dst": SERVER}),
    (D.INFORMATION_REQUEST, {"dst": SERVER})])
def test_silence(kind: int, more: dict[str, Any]) -> None:
    dhcp = server()
    lease(dhcp)
    assert tell(dhcp, asked(kind, na(1, *sorted(POOL)), **more)) is None


@pytest.mark.parametrize("kind", [D.REQUEST, D.RENEW, D.RELEASE, D.DECLINE])
def test_unicast_is_refused(kind: int) -> None:
    dhcp = server()
    (address,) = lease(dhcp)
    reply = must(dhcp, asked(kind, na(1, address), dst=SERVER, src=ipv6_address(address)))
    assert reply.status == Status.USE_MULTICAST and reply.codes == [R.SERVER, R.CLIENT, R.STATUS]
    assert (reply.ip.src, reply.ip.dst) == (ipv6_address(SERVER), ipv6_address(address))
    assert dhcp.show()[0]["state"] == "bound"


# -- relay agents ------------------------------------------------------------------------------------------------------

AGENT = 0x02_00_00_00_00_99


def through(*options: tuple[int, bytes], link: str = "2001:db8:9::1", data: bytes = b"") -> bytes:
    said = relayed(data or message(D.SOLICIT, na(), pd()), link, link_local(CLIENT), *options)
    return framed(said, mac=AGENT, src=ipv6_address("2001:db8:9::1"), dst=SERVER, port=547)


def test_through_a_relay_agent() -> None:
    dhcp = server()
    offer = must(dhcp, through((R.INTERFACE, b"port 3")))
    assert offer.kind == D.ADVERTISE and len(offer.wrappings) == 1
    (head, options), = offer.wrappings
    assert (head.hops, head.link, head.peer) == (0, ipv6_address("2001:db8:9::1"), link_local(CLIENT))
    assert wire.first(options, R.INTERFACE) == b"port 3"
    assert (offer.eth.dst, offer.ip.src, offer.udp.dst) == (AGENT, ipv6_address(SERVER), 547)
    assert offer.lent[0].startswith("2001:db8:9::") and offer.lent[1].endswith("/56")
    assert dhcp.show()[0]["mac"] == "02:00:00:00:00:01"             # out of the address on its link


def test_through_several() -> None:
    dhcp = server()
    inner = relayed(message(D.SOLICIT, na()), "2001:db8:9::1", link_local(CLIENT), (R.INTERFACE, b"a"))
    between = relayed(inner, "::", ipv6_address("fe80::77"), hops=1)
    outer = relayed(between, "2001:db8:1::9", ipv6_address("fe80::78"), (R.INTERFACE, b"c"), hops=2)
    offer = must(dhcp, framed(outer, mac=AGENT, dst="ff05::1:3", port=547))
    assert [(head.hops, head.peer, wire.first(options, R.INTERFACE)) for head, options in offer.wrappings] == [
        (2, ipv6_address("fe80::78"), b"c"), (1, ipv6_address("fe80::77"), None), (0, link_local(CLIENT), b"a")]
    assert offer.lent[0].startswith("2001:db8:9::")                 # the link is what the nearest agent says


def test_an_agent_that_does_not_know_the_link_is_on_ours() -> None:
    assert must(server(), through(link="::")).lent[0] in POOL
    assert tell(server(), through(link="2001:db8:66::1")) is None


def test_so_many_agents_and_no_more() -> None:
    said = message(D.SOLICIT, na())
    for hops in range(9):
        said = relayed(said, "2001:db8:9::1" if hops == 0 else "::", link_local(CLIENT + hops), hops=hops)
    assert len(must(server(), framed(said, mac=AGENT, dst=SERVER, port=547)).wrappings) == 9
    again = relayed(said, "::", 9, hops=8)
    assert tell(server(), framed(again, mac=AGENT, dst=SERVER, port=547)) is None
    assert tell(server(), through(data=b"\x0c")) is None


def test_an_agent_tells_of_a_hardware_address() -> None:
    dhcp = server()
    told = (R.HARDWARE, b"\0\1" + (0x02_00_00_00_00_07).to_bytes(6, "big"))
    said = relayed(message(D.SOLICIT, na()), "2001:db8:1::9", link_local(CLIENT), told)
    assert must(dhcp, framed(said, mac=AGENT, dst=SERVER, port=547)).lent == ["2001:db8:1::7"]
    assert dhcp.show()[0]["mac"] == "02:00:00:00:00:07"


# -- prefixes ----------------------------------------------------------------------------------------------------------

DELEGATING: dict[str, Any] = {**SUBNET, "delegated": [
    {"prefix": "2001:db8:200::/54", "length": 56}, {"prefix": "2001:db8:300::/48", "length": 60}]}


def test_prefixes_are_lent_like_addresses() -> None:
    dhcp = server(subnets=[DELEGATING])
    address, prefix = lease(dhcp, CLIENT, na(), pd())
    assert address in POOL and prefix.endswith("/56")
    assert {row["address"]: row["state"] for row in dhcp.show()} == {address: "bound", prefix: "bound"}
    assert lease(dhcp, CLIENT, pd()) == [prefix]
    reply = must(dhcp, asked(D.RENEW, pd(1, prefix)))
    assert reply.lent == [prefix]
    assert must(dhcp, asked(D.RELEASE, pd(1, prefix))).status == Status.SUCCESS
    assert {row["state"] for row in dhcp.show() if "/" in row["address"]} == {"free"}
    assert dhcp.release(prefix)


def test_a_wish_for_a_length() -> None:
    dhcp = server(subnets=[DELEGATING])
    assert must(dhcp, asked(D.SOLICIT, pd(1, "::/60"))).lent[0].endswith("/60")
    assert must(dhcp, asked(D.SOLICIT, pd(2, "::/48"))).lent[0].endswith("/56")
    assert must(dhcp, asked(D.SOLICIT, pd(3, "2001:db8:300:120::/60"))).lent == ["2001:db8:300:120::/60"]


def test_prefixes_end() -> None:
    few = {**SUBNET, "delegated": [{"prefix": "2001:db8:200::/54", "length": 56}]}
    dhcp = server(subnets=[few], reservations=[{"mac": "02:00:00:00:00:07", "prefix": "2001:db8:200:100::/56"}])
    given = {lease(dhcp, 100 + n, pd())[0] for n in range(3)}
    assert given == {f"2001:db8:200{part}::/56" for part in ("", ":200", ":300")}
    assert must(dhcp, asked(D.SOLICIT, pd(), mac=5)).statuses == [Status.NO_PREFIX]
    assert lease(dhcp, 0x02_00_00_00_00_07, pd()) == ["2001:db8:200:100::/56"]
    assert must(server(), asked(D.SOLICIT, pd())).statuses == [Status.NO_PREFIX]


# -- limits ------------------------------------------------------------------------------------------------------------

def test_a_pool_ends_and_comes_back() -> None:
    dhcp = server()
    given = [lease(dhcp, 100 + n)[0] for n in range(3)]
    assert set(given) == POOL
    assert must(dhcp, asked(D.SOLICIT, na(), mac=999)).statuses == [Status.NO_ADDRESSES]
    Clock.advance(3601 * SECOND)
    assert lease(dhcp, 999)[0] in POOL


def test_one_client_cannot_have_the_pool() -> None:
    dhcp = server(subnets=[{**SUBNET, "pools": ["2001:db8:1::100-2001:db8:1::1ff"]}, FAR], reservations=[])
    got = [must(dhcp, asked(D.SOLICIT, na(), duid=b"\0\4" + bytes([n]))).lent for n in range(50)]
    assert sum(map(len, got)) == 8
    assert sum(len(must(dhcp, asked(D.SOLICIT, *(na(n) for n in range(20)), mac=3)).lent) for _ in range(3)) == 24
    assert lease(dhcp, OTHER)
    behind = [must(dhcp, through(data=message(D.SOLICIT, na(), duid=b"\0\5" + bytes([n])))).lent for n in range(20)]
    assert sum(map(len, behind)) == 0                               # the same host, by way of an agent


def test_a_full_table_is_no_traceback() -> None:
    dhcp = server(leases=1)
    assert len(lease(dhcp)) == 1
    assert must(dhcp, asked(D.SOLICIT, na(), mac=OTHER)).statuses == [Status.NO_ADDRESSES]
    assert must(dhcp, asked(D.REQUEST, na(), mac=OTHER)).statuses == [Status.NO_ADDRESSES]
    assert len(dhcp.associations) == len(dhcp.holders) == 1


STEPS = st.lists(st.tuples(
    st.sampled_from([D.SOLICIT, D.REQUEST, D.RENEW, D.REBIND, D.RELEASE, D.DECLINE, D.CONFIRM]),
    st.integers(1, 4), st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True), st.integers(0, 9),
    st.booleans(), st.integers(0, 2_000)), max_size=40)


@given(STEPS)
def test_nobody_is_given_what_another_has(steps: list[tuple[int, int, list[int], int, bool, int]]) -> None:
    """Clients say whatever they like; what one may still use is never given to another, nor more than the quota."""
    dhcp = server(subnets=[{**DELEGATING, "pools": ["2001:db8:1::100-2001:db8:1::105"]}], quota=4)
    using: dict[tuple[int, int, int], tuple[str, int]] = {}         # by association: what, and until when
    moment = 0
    for kind, who, numbers, place, prefix, wait in steps:
        Clock.advance(wait * SECOND)
        moment += wait
        using = {key: held for key, held in using.items() if held[1] > moment}
        wanted = [pd(n, f"2001:db8:200:{place}00::/56") if prefix else na(n, f"2001:db8:1::10{place}") for n in numbers]
        if kind in (D.RELEASE, D.DECLINE):                          # whoever says so stops using it
            for number in numbers:
                using.pop((who, R.IA_PD if prefix else R.IA_NA, number), None)
        reply = tell(dhcp, asked(kind, *wanted, mac=who))
        for association in reply.associations if reply is not None and reply.kind == D.REPLY else ():
            for one in association.lent:
                if one.valid:
                    using[who, association.kind, association.id] = (f"{one.address:x}/{one.length}", moment + one.valid)
        assert len({what for what, _ in using.values()}) == len(using)
        assert all(sum(key[0] == one for key in using) <= 4 for one in range(1, 5))
    assert len(dhcp.associations) == len(dhcp.holders)


# -- malformed ---------------------------------------------------------------------------------------------------------

WHOLE = asked(D.SOLICIT, na())
BROKEN = [
    WHOLE[:-1], WHOLE[:70], WHOLE[:62], WHOLE[:58] + b"\0\x09" + WHOLE[60:], WHOLE[:58] + b"\4\0" + WHOLE[60:],
    WHOLE[:60] + b"\0\0" + WHOLE[62:], WHOLE[:14] + b"\x50" + WHOLE[15:], WHOLE[:22] + b"\xff" + WHOLE[23:],
    WHOLE[:22] + bytes(16) + WHOLE[38:], asked(D.SOLICIT, (R.IA_NA, bytes(11))),
    asked(D.SOLICIT, (R.IA_NA, bytes(12) + b"\0\5\0\x17" + bytes(23))), asked(D.SOLICIT, (R.IA_NA, bytes(12) + b"\0")),
    asked(D.SOLICIT, (R.IA_PD, bytes(12) + b"\0\x1a\0\x19" + bytes(8) + b"\x81" + bytes(16))),
    asked(D.SOLICIT, na(1), na(1)), asked(D.SOLICIT, na(), (R.CLIENT, b"\0\3\0\1other!")),
    asked(D.SOLICIT, na(), (R.WISHES, b"\0")), framed(b"\1\2\3"), framed(b""), framed(message(D.SOLICIT, na()) + b"\0"),
]


@pytest.mark.parametrize("frame", BROKEN)
def test_malformed_is_silence(frame: bytes) -> None:
    dhcp = server()
    assert tell(dhcp, frame) is None and dhcp.show() == []


@given(st.binary(max_size=80), st.integers(0, 250))
def test_whatever_comes(noise: bytes, at: int) -> None:
    dhcp = server(subnets=[DELEGATING])
    inner = relayed(message(D.REQUEST, na(1, "2001:db8:1::103"), pd(), wish(23, 24)), "2001:db8:1::9", 5)
    frame = bytearray(framed(inner, mac=AGENT, dst=SERVER, port=547))
    frame[at:at + len(noise)] = noise
    verdict = dhcp.run(Packet(bytes(frame), 0))
    if verdict.event is not None:
        dhcp.heard(verdict.event, Packet(bytes(frame), 0))          # type: ignore[arg-type]
    assert len(dhcp.associations) == len(dhcp.holders)


# -- the station -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("target", [ipv6_address(SERVER), SERVER_LINK])
@pytest.mark.parametrize(("source", "known"), [(link_local(CLIENT), 0), (link_local(CLIENT), mac_address(MAC)), (0, 0)])
def test_it_says_where_it_is(target: int, source: int, known: int) -> None:
    frame = solicitation(CLIENT, source, target, known)
    if source == 0:                                     # whoever looks for duplicates tells no address
        frame = icmp6(Ethernet.decode(frame).dst, CLIENT, 0, IPv6.decode(frame[14:]).dst,
                      frame[54:56] + bytes(2) + frame[58:78])
    packet = Packet(frame, 0)
    assert server().run(packet) == forward(0)
    said = bytes(packet)
    ip, advertisement = IPv6.decode(said[14:]), NeighborAdvertisement.decode(said[54:])
    assert ip.dst == (source or ipv6_address("ff02::1")) and is_right6(ip.src, ip.dst, said[54:])
    assert (advertisement.target, advertisement.solicited, ip.src, ip.hops) == (target, int(source != 0), target, 255)
    assert said[78:] == b"\2\1" + mac_address(MAC).to_bytes(6, "big")


def test_it_says_so_to_nobody_who_asks_wrongly() -> None:
    whole = solicitation(CLIENT, link_local(CLIENT), ipv6_address(SERVER))
    nobody = icmp6(Ethernet.decode(whole).dst, CLIENT, 0, IPv6.decode(whole[14:]).dst,
                   whole[54:56] + bytes(2) + whole[58:])
    for frame in (whole[:21] + b"\xfe" + whole[22:], whole[:57] + b"\xff" + whole[58:], nobody,
                  solicitation(CLIENT, link_local(CLIENT), ipv6_address(SERVER) + 1)):
        packet = Packet(frame, 0)
        assert server().run(packet).event is None and bytes(packet) == frame


def test_it_answers_ping() -> None:
    for target in (SERVER_LINK, ipv6_address(SERVER)):
        frame = icmp6(mac_address(MAC), CLIENT, link_local(CLIENT), target,
                      bytes(Icmp6Echo(type=128, id=1, sequence=2)) + b"payload")
        packet = Packet(frame, 0)
        assert server().run(packet) == forward(0)
        ip = IPv6.decode(bytes(packet)[14:])
        assert (ip.src, ip.dst, bytes(packet)[54]) == (target, link_local(CLIENT), 129)
        assert is_right6(ip.src, ip.dst, bytes(packet)[54:])
    assert server().run(Packet(bytes(60), 0)) == drop(Reason.NOT_DHCP)


@pytest.mark.parametrize(("values", "said"), [
    ({"server": "2001:db8:66::1"}, "none contains the server"),
    ({"subnets": [SUBNET, SUBNET]}, "overlaps"),
    ({"subnets": [SUBNET, {**FAR, "delegated": [{"prefix": "2001:db8::/32", "length": 48}]}]}, "overlaps"),
    ({"subnets": [{**SUBNET, "delegated": [{"prefix": "2001:db8:100::/48", "length": 40}]}]}, "48 to 64"),
    ({"subnets": [{**SUBNET, "delegated": [{"prefix": "2001:db8:100::/48", "length": 65}]}]}, "48 to 64"),
    ({"subnets": [{**SUBNET, "delegated": [{"prefix": "10.0.0.0/8", "length": 48}]}]}, "no IPv6 network"),
    ({"subnets": [{**SUBNET, "pools": ["2001:db8:1::100-2001:db8:2::"]}]}, "no host's"),
    ({"subnets": [{**SUBNET, "pools": ["2001:db8:1::-2001:db8:1::9"]}]}, "no host's"),
    ({"subnets": [{**SUBNET, "pools": ["ten"]}]}, "not a range"),
    ({"subnets": [{**SUBNET, "pools": ["2001:db8:1::9-2001:db8:1::3"]}]}, "ends before"),
    ({"subnets": [{**SUBNET, "search": ["a..b"]}]}, "not a name"),
    ({"subnets": [{**SUBNET, "dns": ["2001:db8::1"] * 60}]}, "800 are the most"),
    ({"subnets": [{**SUBNET, "refresh": "1m"}]}, "600 seconds"),
    ({"subnets": [{"prefix": "10.0.0.0/24"}]}, "no IPv6 network"),
    ({"reservations": [{"address": "2001:db8:1::9"}]}, "for a `mac`"),
    ({"reservations": [{"mac": 1}]}, "has an `address`"),
    ({"reservations": [{"mac": 1, "address": "2001:db8:66::1"}]}, "cannot be given"),
    ({"reservations": [{"mac": 1, "address": SERVER}]}, "cannot be given"),
    ({"reservations": [{"mac": n, "address": "2001:db8:1::9"} for n in (1, 2)]}, "another's"),
    ({"reservations": [{"mac": 1, "prefix": "2001:db8::/32"}]}, "overlaps"),
    ({"reservations": [{"mac": 1, "prefix": "2001:db8:100::/52"}]}, "more than one prefix"),
    ({"reservations": [{"mac": 1, "prefix": "2001:db8:66::/72"}]}, "64 bits or fewer"),
    ({"reservations": [{"duid": "xyz", "address": "2001:db8:1::9"}]}, "hexadecimal"),
    ({"reservations": [{"duid": "0001", "address": "2001:db8:1::9"}]}, "3 to 130"),
    ({"duid": "zz"}, "hexadecimal"), ({"lease": "10s"}, "a minute"), ({"preferred": "2h"}, "preferred for longer"),
    ({"sol_max_rt": "1s"}, "60 to 86400"),
])
def test_what_cannot_be_configured(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        server(**values)


def test_whether_hosts_get_addresses() -> None:
    config = server(subnets=[SUBNET, {**FAR, "pools": []}, STATELESS]).config
    assert [config.gives(subnet) for subnet in config.subnets] == [True, False, False]
    reserved = server(subnets=[{**SUBNET, "pools": []}]).config
    assert reserved.gives(reserved.subnets[0])
