"""Integer types.  To Python and to type checkers they are `int`; to layouts and the compiler, n unsigned bits.

The invariant of the whole language hangs here: *arithmetic is Python arithmetic, widths live in storage*.  A value
is cut to its width only where it becomes bytes (a header field, a record field, a table key or value), and there
CPython and the machine cut alike.  On a local variable or a parameter the annotation is a claim the compiler
proves, never a conversion, because CPython would not convert either.

`Annotated[int, UInt(n)]` was chosen over `NewType` (literals would not assign) and over subclasses of `int`
(arithmetic would lose the class, or lie).  `time` has 63 bits so that the difference of two times is exact in 64.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias


@dataclass(frozen=True)
class UInt:
    """The annotation that makes an `int` an n-bit unsigned integer; `text` says how people write it."""

    bits: int
    text: str = ""


u1: TypeAlias = Annotated[int, UInt(1)]
u2: TypeAlias = Annotated[int, UInt(2)]
u3: TypeAlias = Annotated[int, UInt(3)]
u4: TypeAlias = Annotated[int, UInt(4)]
u5: TypeAlias = Annotated[int, UInt(5)]
u6: TypeAlias = Annotated[int, UInt(6)]
u7: TypeAlias = Annotated[int, UInt(7)]
u8: TypeAlias = Annotated[int, UInt(8)]
u9: TypeAlias = Annotated[int, UInt(9)]
u10: TypeAlias = Annotated[int, UInt(10)]
u11: TypeAlias = Annotated[int, UInt(11)]
u12: TypeAlias = Annotated[int, UInt(12)]
u13: TypeAlias = Annotated[int, UInt(13)]
u14: TypeAlias = Annotated[int, UInt(14)]
u15: TypeAlias = Annotated[int, UInt(15)]
u16: TypeAlias = Annotated[int, UInt(16)]
u20: TypeAlias = Annotated[int, UInt(20)]
u24: TypeAlias = Annotated[int, UInt(24)]
u28: TypeAlias = Annotated[int, UInt(28)]
u32: TypeAlias = Annotated[int, UInt(32)]
u40: TypeAlias = Annotated[int, UInt(40)]
u48: TypeAlias = Annotated[int, UInt(48)]
u56: TypeAlias = Annotated[int, UInt(56)]
u64: TypeAlias = Annotated[int, UInt(64)]
u96: TypeAlias = Annotated[int, UInt(96)]
u128: TypeAlias = Annotated[int, UInt(128)]

time: TypeAlias = Annotated[int, UInt(63, "time")]         # a moment, in nanoseconds; of configuration, a length
period: TypeAlias = Annotated[int, UInt(63, "period")]     # a length of time in a record, in nanoseconds
bitrate: TypeAlias = Annotated[int, UInt(48, "rate")]     # bits a second
mac: TypeAlias = Annotated[int, UInt(48, "mac")]
ipv4: TypeAlias = Annotated[int, UInt(32, "ipv4")]
ipv6: TypeAlias = Annotated[int, UInt(128, "ipv6")]

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def uint(hint: Any) -> UInt | None:
    """The integer type a resolved annotation stands for; None for anything else."""
    return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, UInt)), None)


def width(hint: Any) -> int | None:
    """The bits of an integer type; None for anything else."""
    kind = uint(hint)
    return None if kind is None else kind.bits


def storage(bits: int) -> int:
    """The bytes an integer of `bits` takes in a record, a key or a value: 1, 2, 4, 8 or 16."""
    return next(n for n in (1, 2, 4, 8, 16) if bits <= n * 8)
