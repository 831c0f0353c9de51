"""Where backends are, and who asks where we are.

A backend that is not given an Ethernet address is asked for, once a second until it answers and every half minute from
then on; until it answers it gets nothing.  One that falls silent keeps what it has: that it is dead is for a check to
say.

ARP for our own addresses is answered in the data path.  Neighbor discovery is answered here: its options and checksums
are a long way for the kernel's verifier, and hosts ask once in a while.
"""
from __future__ import annotations

import ipaddress

from iovisor.language import SECOND, Packet, Reject, every, handles, now
from iovisor.parts.asking import advertisement_to, arp_request, is_right6, solicitation
from iovisor.wire.arp import Arp
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv6 import IPv6, is_multicast, link_local
from iovisor.wire.neighbor import NeighborSolicitation, OptionType, link_layer_address

from .flows import WORD
from .roster import Roster
from .settings import Address
from .tables import Reason, Slow, Work

AGAIN, REFRESH = SECOND, 30 * SECOND


class Care(Roster):
    def prepare(self) -> None:
        super().prepare()
        self.asked: dict[Address, int] = {}         # when

    # -- neighbors ---------------------------------------------------------------------------------------------------

    def hops(self) -> set[Address]:
        """Whose Ethernet addresses are needed."""
        return {self.settings.next_hop(backend.parsed()) for _, _, backend in self.numbers.values() if not backend.mac}

    @every(0.25)
    def find(self) -> None:
        """Ask for those whose Ethernet address is not known, or not of late."""
        moment, station = now(), self.settings.mac
        for hop in self.hops():
            if moment - self.asked.get(hop, -REFRESH) < (REFRESH if hop in self.stations else AGAIN):
                continue
            self.asked[hop] = moment
            if hop.version == 4:
                self.send(arp_request(station, self.own[0].lower & WORD, int(hop)), self.inside)
            else:
                self.send(solicitation(station, link_local(station), int(hop)), self.inside)

    @handles(Slow)
    def on_slow(self, event: Slow, packet: Packet) -> None:
        """What the data path leaves to us."""
        packet.cursor = 0
        try:
            match event.what:
                case Work.RESOLUTION:
                    eth = packet.parse(Ethernet)
                    if eth.type == EtherType.ARP:
                        message = packet.parse(Arp)
                        self.located(ipaddress.IPv4Address(message.sender_ip), message.sender_mac)
                    else:
                        self.discovered(packet, eth)
                case Work.REFUSAL:
                    self.rejection.turn(packet, event.reason)
                    self.send(packet, packet.port)
                case _:
                    self.lose(event.reason)
        except Reject as rejected:
            self.lose(rejected.reason)

    def discovered(self, packet: Packet, eth: Ethernet) -> None:
        """Neighbor discovery (RFC 4861 section 7.1)."""
        ip = packet.parse(IPv6)
        body = bytes(packet.data[54:54 + ip.length])
        message = packet.parse(NeighborSolicitation)
        asks = message.type == Icmp6Type.NEIGHBOR_SOLICITATION
        told = link_layer_address(packet, OptionType.SOURCE_ADDRESS if asks else OptionType.TARGET_ADDRESS)
        if len(body) < 24 or not is_right6(ip.src, ip.dst, body) or is_group(told) or is_multicast(message.target):
            self.lose(Reason.BAD_RESOLUTION)
        elif asks:
            own = self.settings.mac
            if told != own:
                self.send(advertisement_to(own, message.target, ip.src, told or eth.src), packet.port)
        elif told:
            self.located(ipaddress.IPv6Address(message.target), told)

    def located(self, hop: Address, station: int) -> None:
        if hop not in self.hops() or is_group(station) or not station or self.stations.get(hop) == station:
            return
        self.stations[hop] = station
        self.refresh()

    def lose(self, reason: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1

    def refresh(self) -> None:
        """Something is known of members: write it, and draw again where some were opened or closed."""
        for number in self.numbers:
            self.write(number)
        for vip in {vip for vip, _, _ in self.numbers.values()}:
            self.draw(vip)
        self.changed()
