"""Answers made of the packets they are about: exact bytes, the rules of when there is none, and every target alike."""
from __future__ import annotations

from pathlib import Path

import pytest

from iovisor.compiler.cache import Cache
from iovisor.language import Function, Packet, Ports, Verdict, drop, forward, ports, require
from iovisor.testing import Arrival, agree
from iovisor.testing.packets import (
    Frame,
    destination,
    ethernet,
    fragment,
    icmp,
    icmp6,
    ipv4,
    ipv6,
    tcp,
    trailer,
    udp,
)
from iovisor.wire import Ethernet, EtherType, Icmp, Icmp6, Icmp6Type, IcmpType, IpProtocol, IPv4, IPv6, Tcp, answer
from iovisor.wire.ipv4 import is_sane, skip_options
from iovisor.wire.ipv6 import is_sane as is_sane6
from iovisor.wire.ipv6 import skip_extensions
from tests.wire import frames

HERE4, HERE6 = 0xc0000201, 0x20010db8 << 96 | 0xff
SILENT = drop(200)


class Refuse(Function):
    """Port 0: an error.  Port 1: a reset for TCP, an error for the rest.  Port 2: echo."""

    ports: Ports = ports(3)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            ip = pkt.parse(IPv4)
            require(is_sane(ip))
            if not answer.may_answer(pkt, eth, ip):
                return drop(200)
            skip_options(pkt, ip)
            if pkt.port == 1 and ip.proto == IpProtocol.TCP:
                answer.reset(pkt, ip, pkt.parse(Tcp))
            elif pkt.port == 2:
                message = pkt.parse(Icmp)
                require(ip.proto == IpProtocol.ICMP and message.type == IcmpType.ECHO)
                answer.echo(pkt, eth, ip, message)
            else:
                answer.error(pkt, ip, HERE4, IcmpType.UNREACHABLE, 13, 7)
            return forward(pkt.port)
        require(eth.type == EtherType.IPV6)
        ip6 = pkt.parse(IPv6)
        require(is_sane6(ip6))
        start = len(pkt)
        proto, offset, _ = skip_extensions(pkt, ip6)
        if not answer.may_answer6(pkt, eth, ip6, proto, offset, Icmp6Type.UNREACHABLE):
            return drop(200)
        if pkt.port == 1 and proto == IpProtocol.TCP:
            answer.reset6(pkt, ip6, pkt.parse(Tcp), start - 54)
        elif pkt.port == 2:
            echo = pkt.parse(Icmp6)
            require(proto == IpProtocol.ICMP6 and echo.type == Icmp6Type.ECHO)
            answer.echo6(pkt, eth, ip6, echo)
        else:
            answer.error6(pkt, ip6, HERE6, Icmp6Type.UNREACHABLE, 1)
        return forward(pkt.port)


def ran(frame: Frame | bytes, port: int) -> tuple[Verdict, bytes]:
    packet = Packet(bytes(frame), port)
    return Refuse().run(packet), bytes(packet)


OUT, BACK = ethernet(dst=2, src=1), ethernet(dst=1, src=2)
V4, V6 = ipv4(src="10.0.0.1", dst="10.0.0.2"), ipv6(src="2001:db8::1", dst="2001:db8::2")
ERROR4 = BACK / ipv4(src=HERE4, dst="10.0.0.1", dscp=48) / icmp(type=3, code=13, rest=7)
ERROR6 = BACK / ipv6(src=HERE6, dst="2001:db8::1") / icmp6(type=1, code=1)


@pytest.mark.parametrize("size", [0, 1, 31, 519, 520, 521, 1400])
def test_an_error_quotes_the_packet(size: int) -> None:
    packet = bytes(OUT / V4 / udp(src=5, dst=53) / (bytes(range(256)) * 6)[:size])
    assert ran(packet, 0) == (forward(0), bytes(ERROR4 / packet[14:14 + 548]))


@pytest.mark.parametrize("size", [0, 1, 1183, 1184, 1185, 1400])
def test_an_error_of_version_6_quotes_the_packet(size: int) -> None:
    packet = bytes(OUT / V6 / udp(src=5, dst=53) / (bytes(range(256)) * 6)[:size])
    assert ran(packet, 0) == (forward(0), bytes(ERROR6 / packet[14:14 + 1232]))


def test_padding_is_not_quoted() -> None:
    datagram = bytes(OUT / V4 / udp(src=5, dst=53) / b"x")
    assert ran(datagram + bytes(17), 0)[1] == bytes(ERROR4 / datagram[14:])


@pytest.mark.parametrize("frame", [
    OUT / V4 / icmp(type=3, code=1) / bytes(28), OUT / V4 / icmp(type=11) / bytes(28), OUT / V4 / icmp(type=5),
    OUT / ipv4(src="10.0.0.1", dst="10.0.0.2", offset=3) / bytes(64),
    OUT / ipv4(src="0.0.0.0", dst="10.0.0.2") / udp(), OUT / ipv4(src="127.0.0.1", dst="10.0.0.2") / udp(),
    OUT / ipv4(src="224.0.0.1", dst="10.0.0.2") / udp(), OUT / ipv4(src="255.255.255.255", dst="10.0.0.2") / udp(),
    OUT / ipv4(src="10.0.0.1", dst="224.0.0.5") / udp(), OUT / ipv4(src="10.0.0.1", dst="255.255.255.255") / udp(),
    ethernet(dst="ff:ff:ff:ff:ff:ff", src=1) / V4 / udp(),
    OUT / V6 / icmp6(type=1) / bytes(48), OUT / V6 / destination() / icmp6(type=2) / bytes(48),
    OUT / V6 / fragment(offset=3, id=1, more=0) / bytes(64), OUT / ipv6(src="::", dst="2001:db8::2") / udp(),
    OUT / V6 / icmp6(type=137) / bytes(32),
    OUT / ipv6(src="2001:db8::1", dst="ff02::1") / udp(), ethernet(dst="33:33:00:00:00:01", src=1) / V6 / udp()],
    ids=str)
def test_some_packets_get_no_error(frame: Frame) -> None:
    assert ran(frame, 0) == (SILENT, bytes(frame))


def test_an_error_about_a_query_is_fine() -> None:
    packet = OUT / V4 / icmp(type=8) / b"ping"
    assert ran(packet, 0) == (forward(0), bytes(ERROR4 / bytes(packet)[14:]))


def test_a_reset_of_linux() -> None:
    assert ran(frames.SYN4, 1) == (forward(1), frames.RESET4)


def test_a_reset_acknowledges_what_was_sent() -> None:
    """RFC 9293 section 3.10.7.1: with an ACK, the sequence is what was acknowledged; without, all of it is told."""
    answered = OUT / V4 / tcp(src=7, dst=80, sequence=100, acknowledgment=900, flags=0x18) / b"data"
    want = BACK / ipv4(src="10.0.0.2", dst="10.0.0.1", df=1) / tcp(src=80, dst=7, sequence=900, flags=4)
    assert ran(answered, 1) == (forward(1), bytes(want))
    bare = OUT / V6 / tcp(src=7, dst=80, sequence=0xffff_ffff, flags=3) / b"data"
    want = BACK / ipv6(src="2001:db8::2", dst="2001:db8::1") / tcp(src=80, dst=7, acknowledgment=5, flags=0x14)
    assert ran(bare, 1) == (forward(1), bytes(want))


def test_a_reset_is_not_reset() -> None:
    assert ran(OUT / V4 / tcp(src=7, dst=80, flags=4), 1)[0] == drop(2)
    assert ran(OUT / V6 / tcp(src=7, dst=80, flags=0x14), 1)[0] == drop(2)


def test_echo_of_linux() -> None:
    verdict, reply = ran(frames.ECHO4, 2)
    want = BACK / ipv4(src="10.0.0.2", dst="10.0.0.1", id=0xc6bb, df=1) / icmp(type=0, rest=0x2bb20001) \
        / bytes(range(8))
    assert verdict == forward(2) and reply[6:12] == bytes.fromhex("02000000000b") and reply[14:] == bytes(want)[14:]
    assert ran(frames.ECHO6, 2)[0] == forward(2)


@pytest.mark.root
def test_every_target_answers_alike(tmp_path: Path) -> None:
    long = [OUT / V4 / udp(src=5, dst=53) / bytes(size) for size in (0, 1, 519, 520, 521, 1999)]
    long += [OUT / V6 / udp(src=5, dst=53) / bytes(size) for size in (0, 1, 1183, 1184, 1185, 1999)]
    long += [OUT / V6 / destination() / tcp(flags=2) / b"abc", OUT / V4 / tcp(options=bytes(8), flags=0x10) / b"abc",
             OUT / V4 / udp() / trailer(20)]
    given = [*frames.WHOLE.values(), frames.FIRST6, frames.LATER6, *map(bytes, long)]
    agree(Refuse, [Arrival(frame, port) for frame in given for port in range(3)], cache=Cache(tmp_path))
