"""Translates the prefix of IPv6 addresses, statelessly, and so that no checksum changes (NPTv6, RFC 6296).

Inside addresses of one prefix are seen outside under another of the same length, each under one of its own, both ways,
whoever begins.  The difference of the prefixes is made up for in another 16 bits of the address, so the transport's
checksum is right as it is, and the function need not know what it carries.

## Ports

```text
              ┌────────┐
   inside   ──┤ nptv6  ├──   outside
              └────────┘
```

Put it behind a router's outer port.  It changes neither hop limits nor, except on the way back to the inside, Ethernet
addresses.

## Configuration

| field | default | meaning |
|---|---|---|
| `inside` | | the prefix used inside, 64 bits at most, such as `fd01:203:405::/48` |
| `outside` | | the one it is seen under, of the same length |

```python
from iovisor.functions.nptv6 import Nptv6

office = Nptv6(inside="fd01:203:405::/48", outside="2001:db8:1::/48")
```

With prefixes of 48 bits or less, the subnet (bits 48 to 63) makes up for the difference; with longer ones, the first 16
bits of the interface identifier that are not all ones (RFC 6296 sections 3.4 and 3.5).

*ICMPv6 errors*: the packet they quote is translated as well.  *Hairpins*: what the inside sends to the outside prefix
goes back inside.  IPv4, ARP and discovery pass as they are.

## Tables

| table | key | value |
|---|---|---|
| `prefixes` | 0 | the two prefixes, and what makes up for their difference |

## Counters

None but those of drops.

## Drop reasons

| reason | the packet |
|---|---|
| `TAGGED` | has a VLAN tag |
| `NOT_IP` | is neither IP nor ARP |
| `MALFORMED` | contradicts itself: version, lengths |
| `LINK_LOCAL` | is for a group, or has a link-local address |
| `NOT_INSIDE` | comes from inside with an address that is not of its prefix |
| `NOT_OUTSIDE` | comes from outside for an address that is not of the outside prefix |
| `ALL_ONES` | has an address that leaves no 16 bits to make up for the difference |

## Actions

None.

## Limits

It filters nothing: put a firewall beside it.  The subnet 0xffff cannot be translated, by the standard.  Errors behind
extension headers are not looked into.  TC and XDP.
"""
from __future__ import annotations

from iovisor.language import (
    Array,
    Config,
    ConfigError,
    Function,
    Packet,
    Port,
    Prefix,
    Reasons,
    Record,
    Verdict,
    auto,
    forward,
    inline,
    require,
    table,
    u8,
    u16,
    u64,
)
from iovisor.parts.reading import IPv6Halves
from iovisor.wire.checksum import add
from iovisor.wire.ethernet import Ethernet, EtherType
from iovisor.wire.icmp6 import Icmp6, is_discovery, is_error
from iovisor.wire.ipv4 import IpProtocol

MASK64 = (1 << 64) - 1
SUBNET = 48             # bits of a prefix that leave the subnet whole
TAGS = (0x8100, 0x88a8)


class Reason(Reasons):
    TAGGED = auto()
    NOT_IP = auto()
    MALFORMED = auto()
    LINK_LOCAL = auto()
    NOT_INSIDE = auto()
    NOT_OUTSIDE = auto()
    ALL_ONES = auto()


class Prefixes(Record):
    """Upper halves of addresses; `out` and `back` are added to 16 bits of an address that goes out, or comes back."""

    mask: u64 = 0
    inside: u64 = 0
    outside: u64 = 0
    out: u16 = 0
    back: u16 = 0
    subnet: u8 = 0


class Nptv6Config(Config):
    """Two prefixes."""

    inside: Prefix
    outside: Prefix

    def validate(self) -> None:
        super().validate()
        for name in ("inside", "outside"):
            prefix: Prefix = getattr(self, name)
            if prefix.bits != 128 or not 0 < prefix.length <= 64:
                raise ConfigError(name, f"{prefix} is not an IPv6 prefix of 1 to 64 bits")
        if self.inside.length != self.outside.length:
            raise ConfigError("outside", f"{self.outside} is not as long as {self.inside}")


@inline
def made_up(word: int, change: u16) -> int:
    """16 bits with the difference added; of the two zeros the one that is all zeros (RFC 6296 section 3.2)."""
    found = add(word & 0xffff, change)
    return 0 if found == 0xffff else found


@inline
def translated(upper: u64, lower: u64, mask: u64, prefix: u64, change: u16, subnet: u8) -> tuple[int, int]:
    """An address under another prefix."""
    fresh, rest = upper & ~mask & MASK64 | prefix, lower
    if subnet:
        require(upper & 0xffff != 0xffff, Reason.ALL_ONES)
        fresh = fresh & ~0xffff & MASK64 | made_up(upper, change)
    elif lower >> 48 != 0xffff:
        rest = lower & 0xffff_ffff_ffff | made_up(lower >> 48, change) << 48
    elif lower >> 32 & 0xffff != 0xffff:
        rest = lower & 0xffff_0000_ffff_ffff | made_up(lower >> 32, change) << 32
    elif lower >> 16 & 0xffff != 0xffff:
        rest = lower & 0xffff_ffff_0000_ffff | made_up(lower >> 16, change) << 16
    else:
        require(lower & 0xffff != 0xffff, Reason.ALL_ONES)
        rest = lower & 0xffff_ffff_ffff_0000 | made_up(lower, change)
    return fresh, rest


class Nptv6(Function):
    config: Nptv6Config
    inside: Port
    outside: Port

    prefixes: Array[Prefixes] = table(1)

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        require(not pkt.tagged and eth.type not in TAGS, Reason.TAGGED)
        other = self.outside if pkt.port == self.inside else self.inside
        if eth.type in (EtherType.ARP, EtherType.IPV4):
            return forward(other)
        require(eth.type == EtherType.IPV6, Reason.NOT_IP)
        ip = pkt.parse(IPv6Halves)
        require(ip.version == 6 and ip.length + 54 <= len(pkt), Reason.MALFORMED)
        error = 0
        if ip.next == IpProtocol.ICMP6:
            message = pkt.parse(Icmp6)
            if is_discovery(message.type) and ip.hops == 255:
                return forward(other)
            error = 1 if is_error(message.type) else 0
        require(ip.source_upper >> 54 != 0x3fa and ip.destination_upper >> 54 != 0x3fa
                and ip.destination_upper >> 56 != 0xff, Reason.LINK_LOCAL)
        known = self.prefixes[0]
        back = ip.destination_upper & known.mask == known.outside
        if pkt.port == self.inside:
            require(ip.source_upper & known.mask == known.inside, Reason.NOT_INSIDE)
            upper, lower = translated(ip.source_upper, ip.source_lower, known.mask, known.outside, known.out,
                                      known.subnet)
            pkt.rewrite(ip, under=None, source_upper=upper, source_lower=lower)
        else:
            require(back, Reason.NOT_OUTSIDE)
        if back:
            upper, lower = translated(ip.destination_upper, ip.destination_lower, known.mask, known.inside, known.back,
                                      known.subnet)
            pkt.rewrite(ip, under=None, destination_upper=upper, destination_lower=lower)
        if error:
            require(ip.length >= 48, Reason.MALFORMED)
            quoted = pkt.parse(IPv6Halves)
            if quoted.destination_upper & known.mask == known.inside and pkt.port == self.inside:
                upper, lower = translated(quoted.destination_upper, quoted.destination_lower, known.mask,
                                          known.outside, known.out, known.subnet)
                pkt.rewrite(quoted, under=None, destination_upper=upper, destination_lower=lower)
            if quoted.source_upper & known.mask == known.outside and back:
                upper, lower = translated(quoted.source_upper, quoted.source_lower, known.mask, known.inside,
                                          known.back, known.subnet)
                pkt.rewrite(quoted, under=None, source_upper=upper, source_lower=lower)
        if not back:
            return forward(self.outside)
        if pkt.port == self.inside:
            here = eth.dst
            eth.dst = eth.src
            eth.src = here
        return forward(self.inside)

    # -- control path ------------------------------------------------------------------------------------------------

    def configure(self, old: Nptv6Config | None, new: Nptv6Config) -> None:
        length = new.inside.length
        inside, outside = new.inside.address >> 64, new.outside.address >> 64
        less = total(inside) - total(outside)
        self.prefixes[0] = Prefixes(mask=MASK64 & ~((1 << 64 - length) - 1), inside=inside, outside=outside,
                                    out=less % 0xffff, back=-less % 0xffff, subnet=length <= SUBNET)


def total(half: int) -> int:
    """The sum of four words."""
    return sum(half >> shift & 0xffff for shift in (48, 32, 16, 0))


__all__ = ["Nptv6", "Nptv6Config", "Reason"]
