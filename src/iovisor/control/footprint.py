"""How much of the kernel's memory a table may take, once it is full: what quotas count.

By what the kernel (6.18) allocates an entry: keys and values in multiples of eight bytes; of a hash, and of the buckets
that lead to it, some 64 bytes more; values per CPU once a CPU.  Full, because a tenant is promised its tables, not what
happens to be in them now; `Network.memory` says what that is.
"""
from __future__ import annotations

from functools import cache

from ..kernel import possible_cpus
from ..language.tables import TableSpec

BESIDE = {"hash": 64, "lru": 72, "lpm": 48, "array": 0, "counter": 0}       # bytes an entry beside key and value
MAP = 512                       # bytes of a map


def footprint(spec: TableSpec) -> int:
    """Bytes; `spec` is resolved."""
    assert isinstance(spec.size, int)
    if spec.inner is not None:
        return MAP + spec.size * (BESIDE["hash"] + _eight(spec.key_size) + 8 + footprint(spec.inner))
    key = 0 if spec.kind in ("array", "counter") else _eight(spec.key_size)
    value = _eight(spec.stored_size) * (_processors() if spec.per_cpu else 1)
    count = spec.size + spec.size // 4 + 8 if spec.kind == "lru" else spec.size
    return MAP + count * (BESIDE[spec.kind] + key + value)


def _eight(size: int) -> int:
    return -(-size // 8) * 8


_processors = cache(possible_cpus)

__all__ = ["footprint"]
