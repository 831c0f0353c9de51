"""The Dynamic Host Configuration Protocol for IPv4 (RFC 2131) and its options (RFC 2132).

A message is BOOTP's (RFC 951), 236 bytes, of which only `Bootp` is of use, then a magic number, then options.  Options
have no fixed shape, so the data path looks for one with a loop and the control path reads them all: `decode`, `encode`.

What `decode` refuses is refused whole: half understood requests are how servers come to give one address twice.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum

from iovisor.language import Header, ipv4, mac, u1, u8, u15, u16, u32, u64

SERVER_PORT, CLIENT_PORT = 67, 68
MAGIC = 0x6382_5363                     # RFC 2131 section 3
NAMES = 192                             # bytes for a server's name and a boot file, between `Bootp` and the magic
FIXED = 240                             # bytes before the first option
SMALLEST = 300                          # RFC 951 section 3: what every client and relay accepts
SMALLEST_MOST = 576 - 28 - FIXED        # RFC 2131 section 2: bytes of options that every client accepts
ETHERNET = 1
MOST_HOPS = 16                          # RFC 1542 section 4.1.1
PAD, END = 0, 255
SERVER_NAME_SIZE, BOOT_FILE_SIZE = 64, 128


class BootpOperation(IntEnum):
    """RFC 951 section 3."""

    REQUEST = 1
    REPLY = 2


class DhcpType(IntEnum):
    """RFC 2132 section 9.6."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class DhcpOption(IntEnum):
    """RFC 2132, but for relay agents (RFC 3046), classless routes (RFC 3442) and subnet selection (RFC 3011)."""

    SUBNET_MASK = 1
    ROUTERS = 3
    NAME_SERVERS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = 26
    BROADCAST = 28
    TIME_SERVERS = 42
    REQUESTED = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    TYPE = 53
    SERVER = 54
    WISHES = 55
    MESSAGE = 56
    MOST = 57
    RENEWAL = 58
    REBINDING = 59
    CLIENT = 61
    TFTP_SERVER = 66
    BOOT_FILE = 67
    RELAY = 82
    ROUTES = 121


class Bootp(Header):
    """RFC 2131 section 2, as far as the hardware address, for Ethernet."""

    operation: u8
    hardware: u8 = ETHERNET
    hardware_length: u8 = 6
    hops: u8 = 0
    id: u32
    seconds: u16 = 0
    broadcast: u1 = 0
    reserved: u15 = 0
    client: ipv4 = 0
    yours: ipv4 = 0
    server: ipv4 = 0
    relay: ipv4 = 0
    address: mac
    padding: u64 = 0
    spare: u16 = 0


class MalformedOptions(ValueError):
    """Bytes that are no options."""


def decode(message: bytes) -> dict[int, bytes]:
    """The options of a whole message, from `Bootp` on; those given in parts put together (RFC 3396).

    MalformedOptions if one leaves the message, or there is no magic.
    """
    if len(message) < FIXED or int.from_bytes(message[FIXED - 4:FIXED], "big") != MAGIC:
        raise MalformedOptions("no magic number before the options")
    found: dict[int, bytes] = {}
    _read(message[FIXED:], found)
    overload = found.get(DhcpOption.OVERLOAD, b"\0")[-1]
    if overload & 1:
        _read(message[Bootp.size + SERVER_NAME_SIZE:Bootp.size + NAMES], found)
    if overload & 2:
        _read(message[Bootp.size:Bootp.size + SERVER_NAME_SIZE], found)
    return found


def _read(data: bytes, found: dict[int, bytes]) -> None:
    at = 0
    while at < len(data) and data[at] != END:
        if data[at] == PAD:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise MalformedOptions(f"option {data[at]} does not end within the message")
        found[data[at]] = found.get(data[at], b"") + data[at + 2:at + 2 + data[at + 1]]
        at += 2 + data[at + 1]


def encode(options: Mapping[int, bytes] | Iterable[tuple[int, bytes]]) -> bytes:
    """Options in the order given, with the end behind them; long ones in parts (RFC 3396)."""
    pairs = options.items() if isinstance(options, Mapping) else options
    return b"".join(_written(code, value) for code, value in pairs) + bytes([END])


def _written(code: int, value: bytes) -> bytes:
    parts = (value[start:start + 255] for start in range(0, max(len(value), 1), 255))
    return b"".join(bytes([code, len(part)]) + part for part in parts)


def _spread(value: bytes, places: Sequence[int]) -> list[bytes | None]:
    """What of an option goes into which place: all of it into the first with room, or parts into several (RFC 3396)."""
    for place, room in enumerate(places):
        if len(_written(0, value)) <= room:
            return [*[None] * place, value]
    rooms = [min(max(room - 2, 0), 255) for room in places]
    if sum(rooms) < len(value):
        return []
    starts = [sum(rooms[:place]) for place in range(len(rooms))]
    return [value[start:start + room] or None for start, room in zip(starts, rooms, strict=True)]


def fitted(options: Iterable[tuple[int, bytes]], room: int, needed: Collection[int]) -> tuple[bytes, bytes]:
    """Options that take `room` bytes at most, the end included, and what goes into the place of the `NAMES`.

    If they are too many, some go there (RFC 2132 section 9.3), in parts if they must, and what does not fit there
    either is left out; the `needed` ones stay where they are.
    """
    pairs = list(options)
    whole = encode(pairs)
    if len(whole) <= room:
        return whole, bytes(NAMES)
    left = room - 4 - sum(len(_written(code, value)) for code, value in pairs if code in needed)
    places, texts = [left, BOOT_FILE_SIZE - 1, SERVER_NAME_SIZE - 1], [b"", b"", b""]
    for code, value in pairs:
        if code in needed:
            texts[0] += _written(code, value)
            continue
        for place, part in enumerate(_spread(value, places)):
            if part is not None:
                texts[place] += _written(code, part)
                places[place] -= len(_written(code, part))
    end = bytes([END])
    names = (texts[2] + end).ljust(SERVER_NAME_SIZE, b"\0") + (texts[1] + end).ljust(BOOT_FILE_SIZE, b"\0")
    return _written(DhcpOption.OVERLOAD, b"\3") + texts[0] + end, names
