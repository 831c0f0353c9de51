"""Ring buffers: records from programs to us, in order, without a system call per record.

The ring (5.8) is memory shared by mapping: a page with our position, a page with the producer's, and the
data, mapped twice in a row so that a record is never cut at the end. We may write only our own page. A
record is there when the producer's position has passed it and its busy bit is clear; discarded records are
skipped.

`fileno` becomes readable for poll, epoll and asyncio. The kernel wakes only when we had caught up, so always
iterate to the end before waiting again: `for record in ring` stops when there is nothing more *now*.

Records are copied into `bytes`: a view would be overwritten as soon as our position moves on. A `RingBuffer`
borrows the map and owns only the mappings.
"""

from __future__ import annotations

import errno
import mmap
import select
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from .errors import BpfError
from .maps import Map, MapKind, MapSpec
from .memory import shared

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_HEADER = 8


def ring_spec(name: str, size: int) -> MapSpec:
    """The spec of a ring of `size` bytes: a power of two, at least a page."""
    if size < mmap.PAGESIZE or size & (size - 1):
        raise ValueError(f"ring {name!r}: the size must be a power of two of at least {mmap.PAGESIZE} bytes")
    return MapSpec(name, MapKind.RING_BUFFER, 0, 0, size)


class RingBuffer:
    """The consumer's end of a ring buffer map. There should be one per ring."""

    def __init__(self, ring: Map) -> None:
        """Map the memory of `ring`, which must stay open. BpfError if it cannot be mapped."""
        if ring.spec.kind is not MapKind.RING_BUFFER:
            raise TypeError(f"map {ring.spec.name!r} is no ring buffer")
        self._ring = ring
        self._mask = ring.spec.max_entries - 1
        page = mmap.PAGESIZE
        try:
            ours = shared(ring.fd, page)
            everything = shared(ring.fd, page + 2 * ring.spec.max_entries, offset=page, writable=False)
        except OSError as error:
            raise BpfError(error.errno or errno.EINVAL, "ring map", ring.spec.name) from None
        self._consumer = ours.cast("Q")
        self._producer = everything[:page].cast("Q")
        self._data = everything[page:]
        self._lengths = self._data.cast("I")

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._ring.fd

    def __iter__(self) -> Iterator[bytes]:
        """Every record that is there now, oldest first, each given back to the ring as it is yielded."""
        consumer, producer, lengths, data = self._consumer, self._producer, self._lengths, self._data
        position = consumer[0]
        while position < producer[0]:
            at = position & self._mask
            header = lengths[at >> 2]
            if header & _BUSY:
                return
            length = header & _LENGTH
            record = None if header & _DISCARDED else bytes(data[at + _HEADER : at + _HEADER + length])
            position += length + _HEADER + 7 & ~7
            consumer[0] = position
            if record is not None:
                yield record

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until there is something to read; whether there is. None waits for ever."""
        poll = select.poll()
        poll.register(self._ring.fd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    @property
    def pending(self) -> int:
        """Bytes between us and the producer, headers included: how full the ring is."""
        return self._producer[0] - self._consumer[0]

    def close(self) -> None:
        """Unmap; the map stays open. Safe to call twice."""
        for view in (self._consumer, self._producer, self._lengths, self._data):
            view.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
