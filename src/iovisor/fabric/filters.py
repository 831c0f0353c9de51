"""What a watch wants to see: conditions that become instructions, so that the kernel records nothing else.

A packet is looked at as the function *leaves* it: behind a NAT, say the translated address.  `address`, `mac` and
`service` hold for either direction.  IPv4 and IPv6 are read behind one Ethernet header; the outer VLAN tag is `vlan`,
what follows an inner one or an IPv6 extension header is not found.  Later fragments have no transport ports.

Rejected: cBPF from libpcap, a dependency for what is forty lines here; a table of masks and values, which cannot say
"the transport header lies behind the options".
"""
from __future__ import annotations

from dataclasses import dataclass, fields

from ..kernel.assembler import (
    R2,
    R7,
    R10,
    Label,
    Line,
    compute,
    jump,
    jump_if,
    load,
    move,
)
from ..language.addresses import Prefix, mac_address, prefix
from ..language.verdicts import KINDS
from .sights import Sight

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58}
_ETHERNET, _IP, _PORTS = -24, -64, -72          # where headers lie on the stack


@dataclass(frozen=True)
class Filter:
    """Conditions that all must hold; None holds always.

    `instance` by name; `port` is one of a function (`"lan:0"`), which the packet comes in by or goes out of; `verdict`
    one of drop, host, forward, flood, punt; `reason` the name of a drop's.  `mac` and addresses as text, addresses or
    prefixes of either family; `protocol` a number or icmp, tcp, udp, icmp6.
    """

    instance: str | None = None
    port: str | None = None
    verdict: str | None = None
    reason: str | None = None
    mac: str | None = None
    ethertype: int | None = None
    vlan: int | None = None
    address: str | None = None
    source: str | None = None
    destination: str | None = None
    protocol: int | str | None = None
    service: int | None = None
    source_port: int | None = None
    destination_port: int | None = None

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in KINDS:
            raise ValueError(f"there is no verdict {self.verdict!r}: it is one of {', '.join(KINDS)}")
        if self.reason is not None and self.verdict not in (None, "drop"):
            raise ValueError(f"a reason belongs to a drop, not to {self.verdict}")
        if isinstance(self.protocol, str) and self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol {self.protocol!r}: a number, or one of {', '.join(PROTOCOLS)}")
        for name, limit in (("ethertype", 0xffff), ("vlan", 4095), ("protocol", 255), ("service", 0xffff),
                            ("source_port", 0xffff), ("destination_port", 0xffff)):
            value = getattr(self, name)
            if isinstance(value, int) and not 0 <= value <= limit:
                raise ValueError(f"{name} is at most {limit}, not {value}")
        if len({found.bits for found in self._prefixes().values()}) > 1:
            raise ValueError("addresses of a filter are all IPv4 or all IPv6")
        if self.mac is not None:
            mac_address(self.mac)

    def __str__(self) -> str:
        given = {name.name: getattr(self, name.name) for name in fields(self)}
        return ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)

    def tests(self, sight: Sight) -> list[Line]:
        """Instructions that jump to `other` if the packet's bytes, as that sees them, do not match.

        R6 holds the context; all other registers below R8 and 72 bytes of the stack are lost.
        """
        lines: list[Line] = []
        if self.vlan is not None:
            lines += [*sight.vlan(), jump_if(R2, "!=", self.vlan, "other")]
        if self.mac is not None or self.ethertype is not None or self._beyond():
            lines += sight.fetch(0, _ETHERNET, 14)
        if self.mac is not None:
            mac = mac_address(self.mac).to_bytes(6, "big")
            lines += _either("mac", [(_ETHERNET, mac, b"\xff" * 6), (_ETHERNET + 6, mac, b"\xff" * 6)])
        if self.ethertype is not None:
            lines += _equal(_ETHERNET + 12, self.ethertype.to_bytes(2, "big"), b"\xff" * 2, "other")
        return lines + (self._network(sight) if self._beyond() else [])

    def _prefixes(self) -> dict[str, Prefix]:
        return {name: prefix(value) for name in ("address", "source", "destination")
                if (value := getattr(self, name)) is not None}

    def _ports(self) -> bool:
        return any(value is not None for value in (self.service, self.source_port, self.destination_port))

    def _beyond(self) -> bool:
        return bool(self._prefixes()) or self.protocol is not None or self._ports()

    def _network(self, sight: Sight) -> list[Line]:
        """IPv4 or IPv6, whichever the packet is and the addresses are."""
        family = next((found.bits for found in self._prefixes().values()), 0)
        lines: list[Line] = [load(R2, R10, _ETHERNET + 12, 2)]
        if family != 128:
            lines.append(jump_if(R2, "==", 0x0008, "four"))
        if family != 32:
            lines.append(jump_if(R2, "==", 0xdd86, "six"))
        lines.append(jump("other"))
        if family != 128:
            lines += [Label("four"), *sight.fetch(14, _IP, 20), *self._addresses("four", 12, 16, 9)]
            if self._ports():
                lines += [load(R2, R10, _IP + 6, 2), compute(R2, "&", 0xff1f), jump_if(R2, "!=", 0, "other"),
                          load(R7, R10, _IP, 1), compute(R7, "&", 15), compute(R7, "<<", 2), compute(R7, "+", 14)]
            lines.append(jump("network"))
        if family != 32:
            lines += [Label("six"), *sight.fetch(14, _IP, 40), *self._addresses("six", 8, 24, 6), move(R7, 54)]
        return [*lines, Label("network"), *(self._transport(sight) if self._ports() else [])]

    def _addresses(self, family: str, source: int, destination: int, protocol: int) -> list[Line]:
        lines: list[Line] = []
        if self.protocol is not None:
            number = PROTOCOLS[self.protocol] if isinstance(self.protocol, str) else self.protocol
            lines += _equal(_IP + protocol, bytes([number]), b"\xff", "other")
        elif self._ports():
            lines += [load(R2, R10, _IP + protocol, 1), jump_if(R2, "==", 6, f"ports{family}"),
                      jump_if(R2, "==", 17, f"ports{family}"), jump("other"), Label(f"ports{family}")]
        places = {"source": [source], "destination": [destination], "address": [source, destination]}
        for name, found in self._prefixes().items():
            size = found.bits // 8
            mask = ((1 << found.bits) - (1 << found.bits - found.length)).to_bytes(size, "big")
            lines += _either(f"{family}{name}", [(_IP + at, found.address.to_bytes(size, "big"), mask)
                                                 for at in places[name]])
        return lines

    def _transport(self, sight: Sight) -> list[Line]:
        """R7 is where the transport header begins."""
        lines = sight.fetch(R7, _PORTS, 4)
        for value, places in ((self.source_port, [0]), (self.destination_port, [2]), (self.service, [0, 2])):
            if value is not None:
                wanted = value.to_bytes(2, "big")
                lines += _either(f"port{len(lines)}", [(_PORTS + at, wanted, b"\xff" * 2) for at in places])
        return lines


def _equal(place: int, value: bytes, mask: bytes, otherwise: str) -> list[Line]:
    """Bytes on the stack against a value under a mask."""
    lines: list[Line] = []
    at = 0
    while at < len(value):
        size = 4 if len(value) - at >= 4 and not (place + at) % 4 else 2 if len(value) - at >= 2 else 1
        wanted, bits = (int.from_bytes(part[at:at + size], "little") for part in (value, mask))
        if bits:
            lines += [load(R2, R10, place + at, size), compute(R2, "&", bits, 32),
                      jump_if(R2, "!=", wanted, otherwise, 32)]
        at += size
    return lines


def _either(name: str, places: list[tuple[int, bytes, bytes]]) -> list[Line]:
    """One of several places holds the value."""
    lines: list[Line] = []
    for index, (place, value, mask) in enumerate(places):
        last = index == len(places) - 1
        lines += _equal(place, value, mask, "other" if last else f"{name}{index}")
        if not last:
            lines += [jump(f"{name}found"), Label(f"{name}{index}")]
    return [*lines, Label(f"{name}found")]


__all__ = ["PROTOCOLS", "Filter"]
