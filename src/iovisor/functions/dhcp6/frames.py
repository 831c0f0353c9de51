"""The frames of a DHCPv6 server: a frame to the question in it, and a reply to the frame that takes it back.

What relay agents wrapped a question in goes around the reply, one wrapping for each (RFC 8415 section 19.3).
"""
from __future__ import annotations

from dataclasses import dataclass

from iovisor.language import Packet
from iovisor.wire import dhcp6 as wire
from iovisor.wire.datagram import datagram6
from iovisor.wire.dhcp6 import CLIENT_PORT, SERVER_PORT, Dhcp6, Dhcp6Option, Dhcp6Type, MalformedMessage, Wrapping
from iovisor.wire.ethernet import Ethernet
from iovisor.wire.ipv6 import IPv6, interface_identifier, is_link_local, is_multicast, link_local

from .server import Question, Reply
from .settings import Dhcp6Config

START = 62                      # where a message begins in a frame


@dataclass
class Heard:
    """A question, and how it came."""

    question: Question
    id: int                     # of the transaction
    eth: Ethernet
    ip: IPv6
    wrappings: list[Wrapping]   # from the outside


def read(packet: Packet, length: int) -> Heard | None:
    """A frame as a question; None if it is none a client or relay agent can have meant."""
    frame = bytes(packet)
    eth, ip = Ethernet.decode(frame), IPv6.decode(frame[14:])
    try:
        wrappings, message = wire.unwrapped(frame[START:START + length])
        if len(message) < wire.SHORTEST:
            return None
        head = Dhcp6.decode(message)
        options = wire.decode(message[wire.SHORTEST:])
        question = Question(Dhcp6Type(head.type), owner(eth.src, wrappings), options,
                            next((int(one.head.link) for one in reversed(wrappings) if one.head.link), 0),
                            not wrappings and not is_multicast(ip.dst))
    except (MalformedMessage, ValueError):
        return None
    return Heard(question, head.id, eth, ip, wrappings)


def owner(sender: int, wrappings: list[Wrapping]) -> int:
    """The Ethernet address of a client: who sent it, or what the agent nearest to it says (RFC 6939), or what its
    address on its link tells."""
    if not wrappings:
        return sender
    nearest = wrappings[-1]
    told = wire.first(nearest.options, Dhcp6Option.HARDWARE) or b""
    if len(told) == 8 and int.from_bytes(told[:2], "big") == wire.ETHERNET:
        return int.from_bytes(told[2:], "big")
    low = nearest.head.peer & (1 << 64) - 1
    found = (low ^ 1 << 57) >> 40 << 24 | low & 0xff_ffff
    # An address that was made up otherwise stands for its host all the same.
    return found if interface_identifier(found) == low else low & (1 << 48) - 1


def written(config: Dhcp6Config, heard: Heard, reply: Reply) -> bytes:
    """The frame of a reply."""
    message = bytes(Dhcp6(type=reply.kind, id=heard.id)) + wire.encode(reply.options)
    for wrapping in reversed(heard.wrappings):
        message = wrapping.around(message)
    near = is_link_local(heard.ip.src)
    return datagram6((config.mac, heard.eth.src), (link_local(config.mac) if near else config.server, heard.ip.src),
                     (SERVER_PORT, SERVER_PORT if heard.wrappings else CLIENT_PORT), message)


__all__ = ["START", "Heard", "owner", "read", "written"]
