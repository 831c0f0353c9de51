"""Tables: the typed memory of a function, shared by its data path and its Python.

`stations: Lru[mac, Station] = table(4096)` declares one.  What a table *means* is written here, once; where its bytes
live is a `Home` (Python memory below; kernel maps and native memory in `targets/`), so that the same statement works in
the data path, in a slow-path handler, in a test and in a `show` command.

A view that `get` returns is the entry itself, not a copy: assigning its fields writes the table.  Writing the *table*
(`t[k] = v`, `put`, `insert`, `del`) makes older views of it stale, because an LRU may have evicted, and a hash reused,
what they show; so says this reference, the compiler, and therefore every target.  An `Array` never moves.

`durable=True` makes entries outlive the machine's power, where somebody keeps them (a daemon does): what Python wrote
is on disk before anything that says so leaves, what the data path changes is saved now and then.  So the data path may
assign fields of an entry, and neither store nor delete one.  What is cheap to learn again is not durable: a station, a
connection, whose peers notice and begin anew.  What was promised is: a lease.

`ttl=` makes entries mortal: one older than that reads as absent.  Writing an entry, or `touch`, makes it young.  The
stamp is a hidden word behind the value; a sweep from the control side removes the dead.  In-kernel timers were
rejected: they die with their map's last user.

A full `Hash` refuses: `t[k] = v` then rejects the packet with `Dropped.TABLE_FULL`, `put` answers False.  An `Lru`
evicts by declaration.  Nothing is lost silently.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, get_args, get_origin

from .addresses import Prefix
from .errors import DeclarationError, Reject
from .integers import storage, u64, width
from .layout import Layout, Record
from .machine import now
from .verdicts import Dropped

K = TypeVar("K")
V = TypeVar("V")

ANY, NEW, PRESENT = 0, 1, 2         # how an update treats an entry that is there: bpf(2)'s flags
STAMP = 8                           # bytes of the hidden time behind the value of a mortal entry


@dataclass(frozen=True)
class TableSpec:
    """A table without its memory: everything needed to make one anywhere.  Sizes in bytes, `ttl` in nanoseconds.

    `size` and `ttl` may be the name of a configuration field; `resolve` puts its value in place.
    """

    name: str
    kind: Literal["hash", "lru", "lpm", "array", "counter"]
    key: Any
    value: Any
    size: int | str
    ttl: int | str = 0
    per_cpu: bool = False
    inner: TableSpec | None = None
    durable: bool = False

    @cached_property
    def key_size(self) -> int:
        """What a key takes: arrays and counters are indexed by 32 bits, prefixes begin with a 32-bit length."""
        if self.kind in ("array", "counter"):
            return 4
        return size_of(self.key) + (4 if self.kind == "lpm" else 0)

    @cached_property
    def value_size(self) -> int:
        """What a value takes, without the hidden stamp."""
        return 4 if self.inner is not None else size_of(self.value)

    @cached_property
    def stored_size(self) -> int:
        """What an entry takes: the stamp of a mortal one is aligned to 8."""
        return self.value_size if not self.ttl else -(-self.value_size // 8) * 8 + STAMP

    def resolve(self, config: Any) -> TableSpec:
        """The same with `size` and `ttl` read from `config` where they name its fields."""
        size = getattr(config, self.size) if isinstance(self.size, str) else self.size
        ttl = getattr(config, self.ttl) if isinstance(self.ttl, str) else self.ttl
        inner = None if self.inner is None else self.inner.resolve(config)
        return TableSpec(self.name, self.kind, self.key, self.value, size, ttl, self.per_cpu, inner, self.durable)


class Home(Protocol):
    """Where entries live.  Keys and values are the bytes of their layouts."""

    live: bool      # whether `lookup` answers the memory itself; if not, a written view is stored again

    def lookup(self, key: bytes) -> bytearray | None: ...
    def update(self, key: bytes, value: bytes, mode: int) -> bool: ...
    def delete(self, key: bytes) -> bool: ...
    def store(self, entries: dict[bytes, bytes]) -> bool:
        """`update` of many; False if there was no room for one."""
    def items(self) -> Iterator[tuple[bytes, bytes]]: ...
    def every(self, key: bytes) -> list[bytes]:
        """The values of all CPUs of a per-CPU table; of any other, the value alone."""
    def inner(self, key: bytes) -> Home | None:
        """The home of a nested table."""
    def create(self, key: bytes, spec: TableSpec) -> Home: ...


class PythonHome:
    """Python memory: the reference."""

    live = True

    def __init__(self, spec: TableSpec) -> None:
        assert isinstance(spec.size, int)
        self.spec, self.capacity = spec, spec.size
        self.entries: OrderedDict[bytes, bytearray] = OrderedDict()
        self.nested: dict[bytes, Home] = {}

    def lookup(self, key: bytes) -> bytearray | None:
        kind = self.spec.kind
        if kind in ("array", "counter"):
            if int.from_bytes(key, "little") >= self.capacity:
                return None
            return self.entries.setdefault(key, bytearray(self.spec.stored_size))
        if kind == "lpm":
            return self._longest(key)
        found = self.entries.get(key)
        if found is not None and kind == "lru":
            self.entries.move_to_end(key)
        return found

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        present = key in self.entries
        if self.spec.kind in ("array", "counter"):
            found = self.lookup(key)
            if found is None or mode == NEW:
                return False
            found[:] = value
            return True
        if mode == (NEW if present else PRESENT):
            return False
        if not present and len(self.entries) >= self.capacity:
            if self.spec.kind != "lru":
                return False
            self.entries.popitem(last=False)
        self.entries[key] = bytearray(value)
        self.entries.move_to_end(key)
        return True

    def delete(self, key: bytes) -> bool:
        self.nested.pop(key, None)
        return self.entries.pop(key, None) is not None

    def store(self, entries: dict[bytes, bytes]) -> bool:
        return all(self.update(key, value, ANY) for key, value in entries.items())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        if self.spec.kind in ("array", "counter"):
            for index in range(self.capacity):
                key = index.to_bytes(4, "little")
                yield key, bytes(self.entries.get(key) or bytes(self.spec.stored_size))
        else:
            yield from [(key, bytes(value)) for key, value in self.entries.items()]

    def every(self, key: bytes) -> list[bytes]:
        found = self.lookup(key)
        return [] if found is None else [bytes(found)]

    def inner(self, key: bytes) -> Home | None:
        return self.nested.get(key)

    def create(self, key: bytes, spec: TableSpec) -> Home:
        if key not in self.entries and len(self.entries) >= self.capacity:
            raise Reject(Dropped.TABLE_FULL)
        home = self.nested[key] = PythonHome(spec)
        self.entries.setdefault(key, bytearray(4))
        return home

    def _longest(self, key: bytes) -> bytearray | None:
        address, bits = int.from_bytes(key[4:], "big"), 8 * len(key[4:])
        for length in range(int.from_bytes(key[:4], "little"), -1, -1):
            masked = address >> bits - length << bits - length
            found = self.entries.get(length.to_bytes(4, "little") + masked.to_bytes(bits // 8, "big"))
            if found is not None:
                return found
        return None


def size_of(kind: Any) -> int:
    """The bytes a key or value type takes."""
    if isinstance(kind, type) and issubclass(kind, Layout):
        return kind.size
    bits = width(kind)
    if bits is None:
        raise DeclarationError(f"{kind!r} is not an integer type or a Record")
    return storage(bits)


def encode(kind: Any, value: Any) -> bytes:
    """A key or a value as its bytes: integers are cut to their width."""
    if isinstance(kind, type) and issubclass(kind, Layout):
        if not isinstance(value, kind):
            raise TypeError(f"this table takes {kind.__name__}, not {type(value).__name__}")
        return bytes(value)
    bits = width(kind) or 64
    return (int(value) & (1 << bits) - 1).to_bytes(storage(bits), "little")


def decode(kind: Any, data: bytes | bytearray) -> Any:
    """The opposite of `encode`; a record stands alone."""
    if isinstance(kind, type) and issubclass(kind, Layout):
        return kind.decode(data)
    return int.from_bytes(data[:size_of(kind)], "little")


class Table(Generic[K, V]):
    """What all tables share.  Made by a `Function` from its declarations, never by hand."""

    kind: ClassVar[Literal["hash", "lru", "lpm", "array", "counter"]]
    moves: ClassVar[bool] = True

    def __init__(self, spec: TableSpec, home: Home | None = None) -> None:
        self.spec, self.epoch = spec, 0
        self.home: Home = home or PythonHome(spec)

    # -- the data path's side ------------------------------------------------------------------------------------

    def get(self, key: K) -> V | None:
        """The entry, or None; a record is the entry itself, an integer its value."""
        return self._get(self._key(key))  # type: ignore[no-any-return]

    def __getitem__(self, key: K) -> V:
        """The entry; a missing one rejects the packet with `Dropped.ABSENT`."""
        found = self.get(key)
        if found is None:
            raise Reject(Dropped.ABSENT)
        return found

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def __setitem__(self, key: K, value: V) -> None:
        """Store a copy of `value`; a full table rejects the packet with `Dropped.TABLE_FULL`."""
        if not self._store(self._key(key), value, ANY):
            raise Reject(Dropped.TABLE_FULL)

    def put(self, key: K, value: V) -> bool:
        """Store a copy of `value`; False if the table is full."""
        return self._store(self._key(key), value, ANY)

    def insert(self, key: K, value: V) -> bool:
        """Store a copy of `value` only if `key` is not there; False if it is, or if the table is full.

        A dead entry of a mortal table still counts as there until it is swept.
        """
        return self._store(self._key(key), value, NEW)

    def __delitem__(self, key: K) -> None:
        """Remove the entry, if it is there."""
        self.home.delete(self._key(key))
        self._wrote()

    def touch(self, entry: V) -> None:
        """Make a mortal entry young again."""
        if not isinstance(entry, Layout) or entry._owner is not self:
            raise TypeError("touch takes an entry that `get` of this table returned")
        if not self.spec.ttl:
            raise TypeError(f"{self.spec.name} has no ttl")
        if entry._epoch != self.epoch:
            raise entry._stale()
        entry._buffer[-STAMP:] = now().to_bytes(STAMP, "little")
        self.written(entry)

    # -- the control side -----------------------------------------------------------------------------------------

    def items(self) -> Iterator[tuple[K, V]]:
        """Every living entry, as copies."""
        for key, raw in self.home.items():
            if self._alive(raw):
                yield self._unkey(key), decode(self.spec.value, raw)

    def __iter__(self) -> Iterator[K]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def clear(self) -> None:
        """Remove every entry."""
        for key, _ in list(self.home.items()):
            self.home.delete(key)
        self._wrote()

    def update(self, entries: Mapping[Any, V]) -> None:
        """Store many entries, those only that differ from what is there; rejects if they do not all fit."""
        if self.spec.ttl or self.spec.inner is not None:
            raise TypeError(f"{self.spec.name} is written entry by entry")
        there = dict(self.home.items())
        wanted = {self._key(key): encode(self.spec.value, value) for key, value in entries.items()}
        fits = self.home.store({key: raw for key, raw in wanted.items() if there.get(key) != raw})
        self._wrote()
        if not fits:
            raise Reject(Dropped.TABLE_FULL)

    def sweep(self) -> int:
        """Remove the dead of a mortal table; answers how many."""
        dead = [key for key, raw in self.home.items() if not self._alive(raw)]
        for key in dead:
            self.home.delete(key)
        if dead:
            self._wrote()
        return len(dead)

    def every(self, key: K) -> list[V]:
        """The values of all CPUs."""
        return [decode(self.spec.value, raw) for raw in self.home.every(self._key(key))]

    # -- what the above shares --------------------------------------------------------------------------------------

    def written(self, view: Layout) -> None:
        """Carry an assigned field of a view to a home whose memory the view does not share."""
        if not self.home.live:
            self.home.update(view._key, bytes(view._buffer), PRESENT)

    def _get(self, key: bytes) -> Any:
        raw = self.home.lookup(key)
        if raw is None or not self._alive(raw):
            return None
        if isinstance(self.spec.value, type) and issubclass(self.spec.value, Layout):
            view = self.spec.value.at(raw, 0, self)
            view._key = key
            return view
        return decode(self.spec.value, raw)

    def _store(self, key: bytes, value: Any, mode: int) -> bool:
        raw = encode(self.spec.value, value)
        if self.spec.ttl:
            raw = raw.ljust(self.spec.stored_size - STAMP, b"\0") + now().to_bytes(STAMP, "little")
        stored = self.home.update(key, raw, mode)
        self._wrote()
        return stored

    def _wrote(self) -> None:
        if self.moves:
            self.epoch += 1

    def _alive(self, raw: bytes | bytearray) -> bool:
        ttl = self.spec.ttl
        assert isinstance(ttl, int)
        return not ttl or now() - int.from_bytes(raw[-STAMP:], "little") <= ttl

    def _key(self, key: Any) -> bytes:
        return encode(self.spec.key, key)

    def _unkey(self, raw: bytes) -> Any:
        return decode(self.spec.key, raw)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name}, {dict(self.items())!r})"


class Hash(Table[K, V]):
    """Exact match; refuses when full."""

    kind = "hash"

    def create(self, key: K) -> Any:
        """Nested tables only: an empty inner table under `key`, replacing one that is there; rejects when full."""
        if self.spec.inner is None:
            raise TypeError(f"{self.spec.name} holds no tables")
        home = self.home.create(self._key(key), self.spec.inner)
        self._wrote()
        return TABLES[self.spec.inner.kind](self.spec.inner, home)

    def _get(self, key: bytes) -> Any:
        if self.spec.inner is None:
            return super()._get(key)
        home = self.home.inner(key)
        return None if home is None else TABLES[self.spec.inner.kind](self.spec.inner, home)

    def _store(self, key: bytes, value: Any, mode: int) -> bool:
        if self.spec.inner is not None:
            raise TypeError(f"{self.spec.name} holds tables: use `create(key)`")
        return super()._store(key, value, mode)

    def items(self) -> Iterator[tuple[K, V]]:
        if self.spec.inner is None:
            yield from super().items()
        else:
            for key, _ in self.home.items():
                yield self._unkey(key), self._get(key)


class Lru(Table[K, V]):
    """Exact match; when full, what was not used for long goes.  The kernel's is approximate: size it generously."""

    kind = "lru"


class Lpm(Table[K, V]):
    """Longest prefix: `get` takes an address, the control side stores under a `Prefix`."""

    kind = "lpm"

    def __setitem__(self, key: K | Prefix, value: V) -> None:
        super().__setitem__(key, value)  # type: ignore[index]

    def put(self, key: K | Prefix, value: V) -> bool:
        return super().put(key, value)  # type: ignore[arg-type]

    def insert(self, key: K | Prefix, value: V) -> bool:
        return super().insert(key, value)  # type: ignore[arg-type]

    def __delitem__(self, key: K | Prefix) -> None:
        super().__delitem__(key)  # type: ignore[arg-type]

    def items(self) -> Iterator[tuple[Prefix, V]]:  # type: ignore[override]
        yield from super().items()  # type: ignore[misc]

    def __iter__(self) -> Iterator[Prefix]:  # type: ignore[override]
        return (key for key, _ in self.items())

    def _key(self, key: Any) -> bytes:
        bits = width(self.spec.key) or 0
        if not isinstance(key, Prefix):
            key = Prefix(int(key) & (1 << bits) - 1, bits, bits)
        elif key.bits != bits:
            raise ValueError(f"{self.spec.name} holds prefixes of {bits} bits, {key} has {key.bits}")
        found: Prefix = key
        return found.length.to_bytes(4, "little") + found.address.to_bytes(bits // 8, "big")

    def _unkey(self, raw: bytes) -> Any:
        return Prefix(int.from_bytes(raw[4:], "big"), int.from_bytes(raw[:4], "little"), 8 * len(raw[4:]))


class Array(Table[int, V]):
    """`size` entries, all there, all zero at first; an index beyond them is absent."""

    kind: ClassVar[Literal["array", "counter"]] = "array"
    moves = False

    def __delitem__(self, key: int) -> None:
        raise TypeError("an array's entries cannot be deleted")

    def clear(self) -> None:
        for key, _ in list(self.home.items()):
            self.home.update(key, bytes(self.spec.stored_size), ANY)

    def _key(self, key: Any) -> bytes:
        return (int(key) & 0xffffffff).to_bytes(4, "little")

    def _unkey(self, raw: bytes) -> Any:
        return int.from_bytes(raw, "little")


class Count(Record):
    """What a counter holds at one index, on one CPU."""

    packets: u64 = 0
    bytes: u64 = 0


class Counter(Array[Count]):
    """Packets and bytes by index, one set a CPU, never a lock."""

    kind = "counter"

    def __class_getitem__(cls, item: Any) -> Any:
        raise DeclarationError("a Counter takes no types: `sent: Counter = table(64)`")

    def add(self, index: int, bytes: int = 0) -> None:
        """Count one packet of `bytes`; an index beyond the table counts nothing."""
        count = self._get(self._key(index))
        if count is not None:
            count.packets += 1
            count.bytes += bytes

    def read(self, index: int) -> Count:
        """The sum over all CPUs."""
        found = self.every(index)
        return Count(packets=sum(c.packets for c in found), bytes=sum(c.bytes for c in found))

    def items(self) -> Iterator[tuple[int, Count]]:
        """Every index that counted something."""
        for index in range(int(self.spec.size)):
            count = self.read(index)
            if count.packets:
                yield index, count


TABLES: dict[str, type[Table[Any, Any]]] = {t.kind: t for t in (Hash, Lru, Lpm, Array, Counter)}


@dataclass(frozen=True)
class Declared:
    """What `table(…)` leaves in a class body until the function is declared."""

    size: int | str
    ttl: int | str = 0
    per_cpu: bool = False
    inner: Declared | None = field(default=None)
    durable: bool = False


def table(size: int | str, *, ttl: int | str = 0, per_cpu: bool = False, inner: Any = None, durable: bool = False,
          init: Literal[False] = False) -> Any:
    """Declare a table of `size` entries: `flows: Lru[Flow, State] = table(65536, ttl=60 * SECOND)`.

    `size` and `ttl` may name a configuration field or property.  `inner=table(…)` gives the size of each nested table;
    `durable=True` is for a Hash that is to survive a power cut.
    """
    return Declared(size, ttl, per_cpu, inner, durable)


def declare(name: str, hint: Any, declared: Declared) -> TableSpec:
    """The spec an annotation and its `table(…)` describe."""
    if hint is Counter:
        if declared.durable:
            raise DeclarationError(f"{name}: a Counter begins at zero, and is not durable")
        return TableSpec(name, "counter", None, Count, declared.size, 0, True)
    kind, types = get_origin(hint), get_args(hint)
    if not (isinstance(kind, type) and issubclass(kind, Table)):
        raise DeclarationError(f"{name}: `table(…)` needs a table type such as Hash[mac, u16]")
    key, value = types if len(types) == 2 else (None, types[0])
    inner = None
    if get_origin(value) is not None and isinstance(get_origin(value), type) and issubclass(get_origin(value), Table):
        if kind is not Hash or declared.inner is None:
            raise DeclarationError(f"{name}: tables nest in a Hash, and need `inner=table(size)`")
        inner = declare(f"{name}.inner", value, declared.inner)
    if kind is Lpm and (width(key) or 0) not in (32, 64, 128):
        raise DeclarationError(f"{name}: a longest-prefix table is keyed by 32, 64 or 128 bits")
    if declared.per_cpu and (kind is Lpm or inner is not None or declared.ttl):
        raise DeclarationError(f"{name}: per_cpu goes with Hash, Lru and Array, without ttl")
    if declared.ttl and (kind in (Lpm, Array) or inner is not None or not _is_layout(value)):
        raise DeclarationError(f"{name}: ttl goes with Hash and Lru of records")
    if declared.durable and (kind is not Hash or declared.per_cpu or inner is not None):
        raise DeclarationError(f"{name}: durable goes with Hash, not per CPU, and holding no tables")
    spec = TableSpec(name, kind.kind, key, value, declared.size, declared.ttl, declared.per_cpu, inner,
                     declared.durable)
    assert spec.key_size and spec.value_size
    return spec


def _is_layout(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Layout)
