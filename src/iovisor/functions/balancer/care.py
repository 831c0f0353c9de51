"""Where backends are, how they are, and who asks where we are.

A backend that is not given an Ethernet address is asked for, once a second until it answers and every half minute from
then on; until it answers it gets nothing.  One that falls silent keeps what it has: that it is dead is for its check to
say (checks.py), which also opens a new one.

ARP for our own addresses is answered in the data path.  Neighbor discovery is answered here: its options and checksums
are a long way for the kernel's verifier, and hosts ask once in a while.
"""
from __future__ import annotations

import ipaddress

from iovisor.language import SECOND, Packet, Reject, every, handles, now, random
from iovisor.parts.asking import advertisement_to, arp_request, is_right6, solicitation
from iovisor.parts.reading import MAPPED
from iovisor.wire.arp import Arp
from iovisor.wire.ethernet import Ethernet, EtherType, is_group
from iovisor.wire.icmp6 import Icmp6Type
from iovisor.wire.ipv4 import IpProtocol, IPv4, payload_length, skip_options
from iovisor.wire.ipv6 import IPv6, is_multicast, link_local
from iovisor.wire.neighbor import NeighborSolicitation, OptionType, link_layer_address

from . import checks, tunnel
from .checks import Conversation, Ends, Record
from .flows import MASK64, WORD
from .roster import Roster
from .settings import Address, Way
from .tables import Mode, Reason, Slow, Work

AGAIN, REFRESH = SECOND, 30 * SECOND
NARROW = 600 * SECOND                   # RFC 1191 section 6.3: how long a way is taken to be narrow
FIRST_PORT, PORTS = 32_768, 28_000       # from which checks come


class Care(Roster):
    def prepare(self) -> None:
        super().prepare()
        self.asked: dict[Address, int] = {}                                     # when
        self.records: dict[int, Record] = {}                                    # of members that are checked
        self.talks: dict[tuple[checks.Address, int], tuple[int, Conversation]] = {}     # by who is asked, and our port
        self.begun = 0

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
                case Work.TOO_BIG:
                    tunnel.too_big(packet, event.mtu, event.reason)
                    self.send(packet, packet.port)
                case Work.NARROW:
                    self.narrowed(tunnel.narrowed(packet, event.reason))
                case Work.REFUSAL:
                    self.rejection.turn(packet, event.reason)
                    self.send(packet, packet.port)
                case _:
                    self.answered(packet, event.reason)
        except Reject as rejected:
            self.lose(rejected.reason)

    def narrowed(self, told: tunnel.Narrow) -> None:
        """Less fits on the way to a backend than was thought."""
        for number, (_, vip, backend) in self.numbers.items():
            if vip.mode == Mode.TUNNEL and backend.parsed() == told.backend and told.mtu < self.members[number].mtu:
                self.narrow[number] = told.mtu, now() + NARROW
                self.write(number)

    @every(1)
    def widen(self) -> None:
        """Ways may be wide again."""
        for number, (_, until) in list(self.narrow.items()):
            if until <= now():
                del self.narrow[number]
                self.write(number)

    # -- checks ------------------------------------------------------------------------------------------------------

    @every(0.1)
    def check(self) -> None:
        """Ask who is due, and give up on who does not answer."""
        moment = now()
        for key, (number, conversation) in list(self.talks.items()):
            if number not in self.numbers:
                del self.talks[key]
            elif moment - conversation.began >= conversation.config.timeout:
                del self.talks[key]
                self.conclude(number, False)
        for gone in self.records.keys() - self.numbers.keys():
            del self.records[gone]
        for number, (_, vip, backend) in self.numbers.items():
            if vip.check.way == Way.NONE:
                self.records.pop(number, None)
                continue
            known = self.records.setdefault(number, Record())
            member = self.members[number]
            if moment < known.due or not member.mac:
                continue
            known.due = moment + vip.check.interval
            self.begun = (self.begun + 1) % PORTS
            own = self.own[1 if member.upper else 0]
            ends = Ends(self.settings.mac, member.mac, (own.upper, own.lower), (member.upper, member.lower),
                        FIRST_PORT + self.begun, vip.check.port or backend.port or vip.port)
            conversation = Conversation(vip.check, ends, random(), moment)
            self.talks[ends.there, ends.here_port] = number, conversation
            self.say(conversation.start())

    def answered(self, packet: Packet, reason: int) -> None:
        """A packet to our own address: the next word of a conversation."""
        eth = packet.parse(Ethernet)
        if eth.type == EtherType.IPV4:
            ip = packet.parse(IPv4)
            skip_options(packet, ip)
            protocol, source, size = ip.proto, (0, MAPPED | ip.src), payload_length(ip)
        else:
            ip6 = packet.parse(IPv6)
            protocol, source, size = ip6.next, (ip6.src >> 64, ip6.src & MASK64), ip6.length
        body = bytes(packet.data[packet.cursor:packet.cursor + size])
        tcp = protocol == IpProtocol.TCP
        if len(body) >= (20 if tcp else 8):
            port = int.from_bytes(body[2:4] if tcp else body[4:6], "big")
            number, conversation = self.talks.get((source, port), (-1, None))
            if conversation is not None and (not tcp or body[:2] == conversation.ends.there_port.to_bytes(2, "big")):
                self.say(conversation.hear(protocol, body))
                if conversation.good is not None:
                    del self.talks[source, port]
                    self.conclude(number, conversation.good)
                return
        self.lose(reason)

    def say(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.send(frame, self.inside)

    def conclude(self, number: int, good: bool) -> None:
        """A check was decided."""
        _, vip, _ = self.numbers[number]
        well = number in self.well
        if self.records.setdefault(number, Record()).take(good, well, vip.check) != well:
            self.well.symmetric_difference_update({number})
            self.refresh()

    # -- neighbors ---------------------------------------------------------------------------------------------------

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
