"""Moments in the entries of tables: where they are, and what they are by another clock.

A function's times count from when the machine was started.  What is kept beyond that (a snapshot, a durable table)
must mean the same moment afterwards, so it is moved from one clock to the other: by type, because a record says which
of its fields are a `time`, and not by whoever keeps it.  A length of time is a `period` there, and stays as it is.  The
hidden stamp of a mortal entry is a moment as well.

A time of zero is none ("never", "not yet") and stays.  What lies before the new clock began becomes the earliest there
is: to wrap around would make what is over for long last for ever.
"""
from __future__ import annotations

from .layout import Layout
from .tables import STAMP, TableSpec


def places(spec: TableSpec) -> list[int]:
    """Where in a stored value moments lie; each takes eight bytes."""
    shape = spec.value if isinstance(spec.value, type) and issubclass(spec.value, Layout) else Layout
    own = [field.span[0] for field in shape.fields.values() if field.text == "time"]
    return [*own, spec.stored_size - STAMP] if spec.ttl else own


def moved(spec: TableSpec, value: bytes, by: int, since: int = 0) -> bytes:
    """A stored value by a clock that is ahead by `by` nanoseconds.

    Of moments that would lie before the new clock began, those behind `since` (by the old one) stay behind the others.
    """
    raw = bytearray(value)
    for at in places(spec):
        moment = int.from_bytes(raw[at:at + 8], "little")
        if moment:
            there = min(max(moment + by, 2 if moment > since else 1), (1 << 64) - 1)
            raw[at:at + 8] = there.to_bytes(8, "little")
    return bytes(raw)


__all__ = ["moved", "places"]
