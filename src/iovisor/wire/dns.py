"""The Domain Name System's messages (RFC 1035), as far as a server of names of its own needs them.

`Message` and `Opt` are for the data path; all else is plain Python.

A `Query` is a message that asks one question, with what EDNS says beside it (RFC 6891).  Reading is strict: what is not
one is a `Malformed`, and says whether there is a header to answer with FORMERR or nothing to answer at all.  A question
is kept as bytes too, because answers repeat it as it was spelt (draft-vixie-dnsext-dns0x20).

Names are tuples of labels in lower case.  Compression is read nowhere but in answers from elsewhere, which are passed
on as they are, and written in one form: a pointer to the question.
"""
from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from iovisor.language import Header, u8, u16

PORT = 53
HEADER = struct.Struct("!HHHHHH")
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE, CHECKING = \
    1 << 15, 1 << 10, 1 << 9, 1 << 8, 1 << 7, 1 << 4
INTERNET, ANY_CLASS = 1, 255
PLAIN, LARGEST = 512, 1_232             # bytes over UDP: RFC 1035 section 4.2.1, and what fits everywhere
TO_QUESTION = b"\xc0\x0c"

Name = tuple[bytes, ...]


class Type(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    AAAA = 28
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255


class Code(IntEnum):
    """RFC 1035 section 4.1.1; BADVERS of RFC 6891 is 16, its upper bits in the OPT record."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Message(Header):
    """RFC 1035 section 4.1.1; `others` are additional records."""

    id: u16
    flags: u16
    questions: u16
    answers: u16
    authorities: u16
    others: u16


class Opt(Header):
    """The record of EDNS (RFC 6891 section 6.1.2), whose owner is the root."""

    owner: u8
    type: u16
    room: u16
    code: u8
    version: u8
    flags: u16
    length: u16


class Malformed(ValueError):
    """Not a query; `answerable` if it has a header and is no response."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.answerable = len(data) >= HEADER.size and not data[2] & 0x80


@dataclass(frozen=True)
class Query:
    """One question."""

    id: int
    flags: int
    name: Name
    type: int
    class_: int
    question: bytes                     # as it was sent
    edns: bool = False
    version: int = 0
    room: int = PLAIN                   # bytes the asker takes

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15


@dataclass
class Record:
    """An answer; the name is a pointer to the question unless it is given."""

    type: int
    ttl: int
    data: bytes
    name: bytes = TO_QUESTION

    def __bytes__(self) -> bytes:
        return self.name + struct.pack("!HHIH", self.type, INTERNET, self.ttl, len(self.data)) + self.data


@dataclass
class Answer:
    """What is said to a query."""

    code: int = Code.NOERROR
    authoritative: bool = False
    records: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)


def parse_name(text: str) -> Name:
    """`"web.shop.internal"` to labels; ValueError if it is no name."""
    labels = tuple(label.encode().lower() for label in text.rstrip(".").split(".")) if text.rstrip(".") else ()
    if any(not 0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise ValueError(f"{text!r} is not a name: labels of 1 to 63 bytes, 253 together")
    return labels


def name_bytes(name: Sequence[bytes]) -> bytes:
    """Labels as the wire has them."""
    return b"".join(bytes([len(label)]) + label for label in name) + b"\0"


def name_text(name: Sequence[bytes]) -> str:
    return ".".join(label.decode(errors="backslashreplace") for label in name) or "."


def read_name(data: bytes, at: int) -> tuple[Name, int]:
    """A name without compression, in lower case, and where it ends."""
    labels: list[bytes] = []
    start = at
    while True:
        if at >= len(data):
            raise Malformed("a name goes on beyond the end", data)
        size = data[at]
        if size > 63:
            raise Malformed("a question is not compressed", data)
        at += 1 + size
        if at > len(data) or at - start > 255:
            raise Malformed("a label goes on beyond the end, or the name is too long", data)
        if not size:
            return tuple(labels), at
        labels.append(data[at - size:at].lower())


def read_query(data: bytes) -> Query:
    """A message as a query; `Malformed` if it is none."""
    if len(data) < HEADER.size:
        raise Malformed("shorter than a header", data)
    number, flags, questions, answers, authorities, others = HEADER.unpack_from(data)
    if flags & RESPONSE:
        raise Malformed("a response", data)
    if questions != 1 or answers or authorities:
        raise Malformed("not one question and nothing else", data)
    name, at = read_name(data, HEADER.size)
    if at + 4 > len(data):
        raise Malformed("a question without a type", data)
    kind, class_ = struct.unpack_from("!HH", data, at)
    question, at = data[HEADER.size:at + 4], at + 4
    edns, version, room = False, 0, PLAIN
    for _ in range(others):
        owner, at = read_name(data, at)
        if at + 10 > len(data):
            raise Malformed("a record that is cut", data)
        record, size, _, version_of, _, length = struct.unpack_from("!HHBBHH", data, at)
        at += 10 + length
        if at > len(data):
            raise Malformed("a record that is cut", data)
        if record == Type.OPT:
            if edns or owner:
                raise Malformed("two EDNS records, or one with a name", data)
            edns, version, room = True, version_of, max(PLAIN, min(size, LARGEST))
    if at != len(data):
        raise Malformed("more bytes than the message has", data)
    return Query(number, flags, name, kind, class_, question, edns, version, room)


def answers(message: bytes, query: Query) -> bool:
    """Whether a message from elsewhere is an answer to a question that was passed on; its number is not looked at."""
    start = HEADER.size
    return (len(message) >= start and bool(message[2] & 0x80) and message[4:6] == b"\0\1"
            and message[start:start + len(query.question)] == query.question)


def flags_of(answer: Answer, recursion: bool) -> int:
    """What a response's flags say of an answer; others are those of the query."""
    return (RESPONSE | answer.code & 15 | (AUTHORITATIVE if answer.authoritative else 0)
            | (RECURSION_AVAILABLE if recursion else 0))


def write(query: Query, answer: Answer, recursion: bool) -> bytes:
    """The response; if it is larger than the asker takes, it has no records and is truncated (RFC 2181 section 9)."""
    flags = query.flags & (15 << 11 | RECURSION_DESIRED | CHECKING) | flags_of(answer, recursion)
    extra = b"\0" + struct.pack("!HHBBHH", Type.OPT, LARGEST, answer.code >> 4, 0, 0, 0) if query.edns else b""
    bodies = [b"".join(map(bytes, part)) for part in (answer.records, answer.authority)]
    counts = [len(answer.records), len(answer.authority)]
    if HEADER.size + len(query.question) + sum(map(len, bodies)) + len(extra) > query.room:
        flags, bodies, counts = flags | TRUNCATED, [b"", b""], [0, 0]
    return HEADER.pack(query.id, flags, 1, *counts, int(bool(extra))) + query.question + b"".join(bodies) + extra


def refusal(data: bytes, code: int) -> bytes:
    """What is said to something that has a header and no question worth repeating."""
    number, flags = struct.unpack_from("!HH", data)
    return HEADER.pack(number, RESPONSE | flags & (15 << 11 | RECURSION_DESIRED) | code, 0, 0, 0, 0)


__all__ = ["Answer", "Code", "Malformed", "Message", "Name", "Opt", "Query", "Record", "Type", "answers", "flags_of",
           "name_bytes", "name_text", "parse_name", "read_name", "read_query", "refusal", "write"]
