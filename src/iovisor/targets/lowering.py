"""Lowerings that every compiled target shares: checksums and the packing of keys and values.

RFC 1624 arithmetic is done on the bytes as they lie, without swapping: a one's complement sum does not care about byte
order, and the kernel's own helpers take their differences in this form.
"""
from __future__ import annotations

from dataclasses import dataclass

from ..compiler import ir
from ..compiler.llvm import Emitter, Pointer
from ..language.integers import storage, width
from ..language.layout import Field, Header, Layout
from ..language.packet import FARTHEST, GROWN, INTERNET
from ..language.verdicts import Dropped

RESIZES = frozenset({"push", "insert", "pop", "remove", "resize", "exchange", "tag", "untag"})


@dataclass(frozen=True)
class Change:
    """What rewritten fields add to a one's complement sum: an i64 operand, and the most it can be."""

    sum: str
    most: int


def difference(emit: Emitter, view: ir.Var, before: list[str], names: list[str]) -> Change:
    """The sum of (~old + new) over the words these fields touch, after the fields were written."""
    total, most = "0", 0
    for old, (offset, bits) in zip(before, words(view, names), strict=True):
        new = _raw(emit, view, offset, bits)
        gone = emit.value(f"xor i64 {old}, {(1 << bits) - 1}")
        both = emit.value(f"add i64 {gone}, {new}")
        total = both if total == "0" else emit.value(f"add i64 {total}, {both}")
        most += 2 * ((1 << bits) - 1)
    return Change(total, most)


def words(view: ir.Var, names: list[str]) -> list[tuple[int, int]]:
    """The even-aligned accesses that cover these fields: (offset, bits)."""
    kind = view.type
    assert isinstance(kind, ir.View)
    spans = [kind.layout.fields[name].span for name in names]
    halves = sorted({offset for first, last in spans for offset in range(first & ~1, last, 2)})
    found: list[tuple[int, int]] = []
    while halves:
        first = halves.pop(0)
        if halves and halves[0] == first + 2:
            halves.pop(0)
            found.append((first, 32))
        else:
            found.append((first, 16))
    return found


def sums(emit: Emitter, view: ir.Var, names: list[str]) -> list[str]:
    """The words these fields touch, as they are now."""
    return [_raw(emit, view, offset, bits) for offset, bits in words(view, names)]


def _raw(emit: Emitter, view: ir.Var, offset: int, bits: int) -> str:
    emit.reachable(view)
    part = emit.value(f"load i{bits}, ptr {emit.target.address(emit, view, offset)}, align 1")
    return emit.value(f"zext i{bits} {part} to i64")


def adjust(emit: Emitter, view: ir.Var, change: Change) -> None:
    """Apply a difference to a header's checksum field, in place."""
    kind = view.type
    assert isinstance(kind, ir.View) and issubclass(kind.layout, Header) and kind.layout.coverage is not None
    coverage = kind.layout.coverage
    emit.reachable(view)
    place = emit.target.address(emit, view, kind.layout.fields[coverage.field].span[0])
    old = emit.value(f"load i16, ptr {place}, align 1")
    if coverage.optional:
        with emit.when(emit.value(f"icmp ne i16 {old}, 0")):
            new = _adjusted(emit, old, change)
            zero = emit.value(f"icmp eq i16 {new}, 0")
            emit.emit(f"store i16 {emit.value(f'select i1 {zero}, i16 -1, i16 {new}')}, ptr {place}, align 1")
    else:
        emit.emit(f"store i16 {_adjusted(emit, old, change)}, ptr {place}, align 1")


def _adjusted(emit: Emitter, old: str, change: Change) -> str:
    """A checksum after a change, i16.  0xffff, zero to this sum, keeps it and what it folds to from being zero.

    The last two folds are one multiplication: of a sum below 2**32, bits 32 to 47 of its product with 2**32 + 2**16 + 1
    are both halves added, with the carry.
    """
    less = emit.value(f"sub i64 {change.sum}, {emit.value(f'zext i16 {old} to i64')}")
    total = emit.value(f"add i64 {less}, {2 * 0xffff}")
    low, high = emit.value(f"and i64 {total}, 65535"), emit.value(f"lshr i64 {total}, 16")
    total = emit.value(f"add i64 {low}, {high}")
    assert 2 * 0xffff + change.most < 1 << 47
    folded = emit.value(f"lshr i64 {emit.value(f'mul i64 {total}, {1 << 32 | 1 << 16 | 1}')}, 32")
    return emit.value(f"xor i16 {emit.value(f'trunc i64 {folded} to i16')}, -1")


def rewrite(emit: Emitter, call: ir.Call, cover: object, below: object) -> None:
    """`Packet.rewrite`: `cover(view, change)` mends a header's own checksum, `below(view, change)` that under it."""
    assert callable(cover) and callable(below)
    names, under = list(call.statics[0]), call.statics[1]
    header = call.args[0]
    assert isinstance(header, ir.Read) and isinstance(header.var.type, ir.View)
    layout = header.var.type.layout
    assert issubclass(layout, Header)
    values = [emit.integer(v, 128 if layout.fields[n].bits > 64 else 64)
              for v, n in zip(call.args[1 + (under is not None):], names, strict=True)]
    own = names if layout.coverage is not None else []
    pseudo = [n for n in names if n in layout.pseudo] if under is not None and under.coverage.pseudo else []
    before = {tuple(group): sums(emit, header.var, group) for group in (own, pseudo) if group}
    for name, value in zip(names, values, strict=True):
        emit.store_field(header.var, layout.fields[name], value)
    changes = {key: difference(emit, header.var, old, list(key)) for key, old in before.items()}
    if own:
        cover(header.var, changes[tuple(own)])
    if pseudo:
        second = call.args[1]
        assert isinstance(second, ir.Read)
        below(second.var, changes[tuple(pseudo)])


def amend(emit: Emitter, call: ir.Call) -> tuple[ir.Var, Change]:
    """`Packet.amend`: the header, and the change as the bytes of its checksum lie."""
    header = call.args[0]
    assert isinstance(header, ir.Read)
    return header.var, Change(folded(emit, emit.integer(call.args[1], 64)), 0xffff)


def continues(stmt: ir.Stmt | None) -> bool:
    """Whether a statement is another rewrite that reads nothing: the checksums of the last may wait for it."""
    if not (isinstance(stmt, ir.Do) and isinstance(stmt.value, ir.Call) and stmt.value.op in ("rewrite", "amend")):
        return False
    nodes = (node for argument in stmt.value.args for node in ir.walk(argument))
    return all(isinstance(node, ir.Const | ir.Read | ir.Binary | ir.Unary) for node in nodes)


def key(emit: Emitter, expr: ir.Expr, kind: object, prefix: bool = False) -> str:
    """A pointer to the bytes of a key; a longest-prefix key gets its full length in front."""
    if isinstance(kind, type) and issubclass(kind, Layout):
        return emit.pointer(expr).address
    bits = width(kind) or 32
    value = emit.integer(expr, 128 if bits > 64 else 64)
    if prefix:
        address = emit.lend(f"[{(4 + bits // 8 + 7) // 8} x i64]", 8)
        emit.emit(f"store i32 {bits}, ptr {address}, align 4")
        for first in range(0, bits // 8, 4):
            place, wide = emit.offset(address, 4 + first), 128 if bits > 64 else 64
            emit.store_swapped(place, value, bits - 8 * first - 32, 32, wide)
        return address
    return scalar(emit, value, bits)


def scalar(emit: Emitter, value: str, bits: int) -> str:
    """A pointer to an integer stored as a key or a value."""
    size = storage(bits)
    address = emit.lend(f"[{max(size // 8, 1)} x i64]", 8)
    emit.store_host(address, Field("", bits, 0, False), value)
    return address


def stored(emit: Emitter, expr: ir.Expr, spec: object) -> str:
    """A pointer to the bytes of a value as they are stored, the stamp of a mortal one behind."""
    from ..language.tables import STAMP, TableSpec
    assert isinstance(spec, TableSpec)
    if not (isinstance(spec.value, type) and issubclass(spec.value, Layout)):
        bits = width(spec.value) or 64
        return scalar(emit, emit.integer(expr, 128 if bits > 64 else 64), bits)
    address = emit.pointer(expr).address
    if not spec.ttl:
        return address
    copy = emit.lend(f"[{spec.stored_size // 8} x i64]", 8)
    for word in range(0, spec.stored_size - STAMP, 8):
        emit.emit(f"store i64 0, ptr {emit.offset(copy, word)}, align 8")
    copy_bytes(emit, address, copy, spec.value)
    emit.emit(f"store i64 {emit.now()}, ptr {emit.offset(copy, spec.stored_size - STAMP)}, align 8")
    return copy


def copy_bytes(emit: Emitter, source: str, target: str, layout: type[Layout]) -> None:
    """Copy a record in accesses that its alignment allows."""
    for offset, bits in _aligned(layout):
        part = emit.value(f"load i{bits}, ptr {emit.offset(source, offset)}, align {bits // 8}")
        emit.emit(f"store i{bits} {part}, ptr {emit.offset(target, offset)}, align {bits // 8}")


def _aligned(layout: type[Layout]) -> list[tuple[int, int]]:
    unit = next(n for n in (8, 4, 2, 1) if layout.size % n == 0)
    return [(offset, unit * 8) for offset in range(0, layout.size, unit)]


def offset_of(emit: Emitter, call: ir.Call, argument: ir.Expr | None = None) -> tuple[str, int | None]:
    """Where in the packet a primitive reads: an i64 operand the verifier can bound, and the constant if it is one."""
    low, high = emit.checked.offsets[id(call)]
    if low == high:
        if argument is not None and any(isinstance(n, ir.Call | ir.Sequence) for n in ir.walk(argument)):
            emit.integer(argument, 64)
        return str(low), low
    cursor = emit.value(f"load i64, ptr {emit.cursor}")
    if argument is not None:
        cursor = emit.value(f"add i64 {cursor}, {emit.integer(argument, 64)}")
    assert high <= FARTHEST
    return bounded(emit, cursor, high), None


def bounded(emit: Emitter, value: str, high: int) -> str:
    """Hide a value from LLVM, then mask it where the verifier can see: both then agree on its range."""
    hidden = emit.value(f'call i64 asm sideeffect "", "=r,0"(i64 {value})')
    return emit.value(f"and i64 {hidden}, {(1 << max(high, 1).bit_length()) - 1}")


def move_cursor(emit: Emitter, call: ir.Call, offset: str, size: int) -> None:
    """Put the cursor behind what was parsed."""
    behind = str(int(offset) + size) if offset.isdigit() else emit.value(f"add i64 {offset}, {size}")
    emit.emit(f"store i64 {behind}, ptr {emit.cursor}")


def skip(emit: Emitter, call: ir.Call, truncated: int) -> None:
    """`Packet.skip`: a negative count rejects."""
    low, _ = emit.checked.offsets[id(call)]
    count = emit.integer(call.args[0], 64)
    if low < 0:
        emit.reject(truncated, emit.value(f"icmp slt i64 {count}, 0"))
    cursor = emit.value(f"load i64, ptr {emit.cursor}")
    emit.emit(f"store i64 {emit.value(f'add i64 {cursor}, {count}')}, ptr {emit.cursor}")


def move_front(emit: Emitter, data: str, count: int) -> None:
    """Bring the Ethernet header that lies `count` bytes behind `data` to it, and clear what it leaves and the rest."""
    saved = [(first, bits, emit.value(f"load i{bits}, ptr {emit.offset(data, count + first)}, align 1"))
             for first, bits in ((0, 64), (8, 32), (12, 16))]
    for first, bits, part in saved:
        emit.emit(f"store i{bits} {part}, ptr {emit.offset(data, first)}, align 1")
    clear(emit, data, 14, count)


def clear(emit: Emitter, data: str, first: int, count: int) -> None:
    """Make bytes of the packet zero."""
    end = first + count
    while first < end:
        size = next(n for n in (8, 4, 2, 1) if first + n <= end)
        emit.emit(f"store i{size * 8} 0, ptr {emit.offset(data, first)}, align 1")
        first += size


def taken(emit: Emitter, call: ir.Call) -> str:
    """How many bytes `Packet.exchange` takes away, i64, in a range the verifier knows."""
    low, high = emit.interval(call.args[0])
    value = emit.integer(call.args[0], 64)
    return str(low) if low == high else bounded(emit, value, high)


def exchangeable(emit: Emitter, call: ir.Call, length: str, data: str) -> None:
    """Reject what `Packet.exchange` does; at least 14 bytes are there."""
    other = 60 - call.statics[0]
    emit.reject(Dropped.RESIZE, emit.value(f"icmp ult i64 {length}, {other}"))
    kind = emit.load_swapped(emit.offset(data, 12), 16)
    emit.reject(Dropped.RESIZE, emit.value(f"icmp ne i64 {kind}, {INTERNET[other]}"))


def front(emit: Emitter, data: str) -> list[tuple[int, int, str]]:
    """The Ethernet addresses: where, how many bits, and which."""
    return [(first, bits, emit.value(f"load i{bits}, ptr {emit.offset(data, first)}, align 1"))
            for first, bits in ((0, 64), (8, 32))]


def put_front(emit: Emitter, data: str, saved: list[tuple[int, int, str]], call: ir.Call) -> None:
    """Put them before what `exchange` made, with its type, and clear the new headers."""
    for first, bits, part in saved:
        emit.emit(f"store i{bits} {part}, ptr {emit.offset(data, first)}, align 1")
    put_type(emit, data, call)


def put_type(emit: Emitter, data: str, call: ir.Call) -> None:
    """Say what the frame carries, and clear the new headers."""
    emit.store_swapped(emit.offset(data, 12), str(INTERNET[call.statics[0]]), 0, 16)
    clear(emit, data, 14, call.statics[1])


def move_back(emit: Emitter, data: str, count: int) -> None:
    """Bring the Ethernet header at `data` to `count` bytes behind it."""
    saved = [(first, bits, emit.value(f"load i{bits}, ptr {emit.offset(data, first)}, align 1"))
             for first, bits in ((0, 64), (8, 32), (12, 16))]
    for first, bits, part in saved:
        emit.emit(f"store i{bits} {part}, ptr {emit.offset(data, count + first)}, align 1")


def resizable(emit: Emitter, length: str, before: str) -> None:
    """Reject what `Packet.resize` does."""
    emit.reject(Dropped.TRUNCATED, emit.value(f"icmp ult i64 {length}, 14"))
    grows = emit.value(f"icmp ugt i64 {length}, {before}")
    far = emit.value(f"icmp ugt i64 {length}, {GROWN}")
    emit.reject(Dropped.RESIZE, emit.value(f"and i1 {grows}, {far}"))


def folded(emit: Emitter, total: str) -> str:
    """A sum of words as they lie in memory, below 2**48, as 16 bits in network order."""
    for _ in range(3):
        low, high = emit.value(f"and i64 {total}, 65535"), emit.value(f"lshr i64 {total}, 16")
        total = emit.value(f"add i64 {low}, {high}")
    emit.declare("declare i16 @llvm.bswap.i16(i16)")
    half = emit.value(f"trunc i64 {total} to i16")
    return emit.value(f"zext i16 {emit.value(f'call i16 @llvm.bswap.i16(i16 {half})')} to i64")


def age(emit: Emitter, address: str, spec: object, ttl: str) -> str:
    """The address of a mortal entry, or null if it is dead."""
    from ..language.tables import STAMP, TableSpec
    assert isinstance(spec, TableSpec)
    result = emit.slot("ptr")
    emit.emit(f"store ptr null, ptr {result}")
    with emit.when(emit.value(f"icmp ne ptr {address}, null")):
        born = emit.value(f"load i64, ptr {emit.offset(address, spec.stored_size - STAMP)}, align 8")
        old = emit.value(f"sub i64 {emit.now()}, {born}")
        with emit.when(emit.value(f"icmp sle i64 {old}, {ttl}")):
            emit.emit(f"store ptr {address}, ptr {result}")
    return emit.value(f"load ptr, ptr {result}")


__all__ = ["RESIZES", "Change", "Pointer", "adjust", "age", "amend", "bounded", "clear", "continues", "copy_bytes",
           "exchangeable", "folded", "front", "key", "move_back", "move_cursor", "move_front", "offset_of", "put_front",
           "put_type", "resizable", "rewrite", "scalar", "skip", "stored", "taken"]
