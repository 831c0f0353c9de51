"""Loads and stores: fields of headers, of records, of configuration.

A header's field is cut into the fewest power-of-two accesses, swapped, shifted and masked; LLVM folds the swap into
constants.  A packet's pointers may have been lost to a helper: `reachable` gets one back before it is used.  A record's
field is an aligned access in the machine's order.
"""
from __future__ import annotations

from ..language.integers import storage
from ..language.layout import Field as Described
from . import ir
from .printing import Printing, pieces


class Memory(Printing):
    """The half of the generator that knows layouts."""

    def offset(self, address: str, count: int | str) -> str:
        """A pointer so many bytes on."""
        if count == 0:
            return address
        return self.value(f"getelementptr i8, ptr {address}, i64 {count}")

    def memory(self, view: ir.Var) -> str:
        """The address of a view that is not in the packet."""
        return self.value(f"load ptr, ptr {self.slots_of(view).value}")

    def reachable(self, view: ir.Var) -> None:
        """Make sure that a packet view's pointer may be used."""
        if view not in self.usable:
            self.target.reach(self.whole, view)
            self.usable.add(view)

    def load_field(self, view: ir.Var, described: Described) -> str:
        kind = view.type
        assert isinstance(kind, ir.View)
        if not described.wire:
            return self.load_host(self.memory(view), described)
        first, last = described.span
        bits = 128 if last - first > 8 else 64
        value = self.load_wire(view, first, last, bits)
        if described.shift:
            value = self.value(f"lshr i{bits} {value}, {described.shift}")
        if described.bits < (last - first) * 8 - described.shift:
            value = self.value(f"and i{bits} {value}, {described.mask}")
        if bits == 128 and described.bits <= 64:
            value = self.value(f"trunc i128 {value} to i64")
        return value

    def load_wire(self, view: ir.Var, first: int, last: int, bits: int) -> str:
        """A big-endian integer of a packet view, in the fewest loads."""
        self.reachable(view)
        total = ""
        for offset, size in pieces(first, last, self.target.split(self.whole, view)):
            part = self.load_swapped(self.target.address(self.whole, view, offset), size, bits)
            above = self.value(f"shl i{bits} {total}, {size}") if total else ""
            total = self.value(f"or i{bits} {above}, {part}") if total else part
        return total

    def load_swapped(self, address: str, size: int, bits: int = 64) -> str:
        part = self.value(f"load i{size}, ptr {address}, align 1")
        if size > 8:
            self.declare(f"declare i{size} @llvm.bswap.i{size}(i{size})")
            part = self.value(f"call i{size} @llvm.bswap.i{size}(i{size} {part})")
        return self.value(f"zext i{size} {part} to i{bits}") if size < bits else part

    def load_host(self, address: str, described: Described) -> str:
        first, size = described.span[0], storage(described.bits) * 8
        if size == 128:
            low = self.value(f"load i64, ptr {self.offset(address, first)}, align 8")
            high = self.value(f"load i64, ptr {self.offset(address, first + 8)}, align 8")
            high = self.value(f"shl i128 {self.value(f'zext i64 {high} to i128')}, 64")
            return self.value(f"or i128 {high}, {self.value(f'zext i64 {low} to i128')}")
        part = self.value(f"load i{size}, ptr {self.offset(address, first)}, align {size // 8}")
        return self.value(f"zext i{size} {part} to i64") if size < 64 else part

    def store_field(self, view: ir.Var, described: Described, value: str, fits: bool = False) -> None:
        """Assign a field; `fits` if the value is known to need no cutting."""
        if not described.wire:
            self.store_host(self.memory(view), described, value, fits)
            return
        first, last = described.span
        room = (last - first) * 8
        bits = 128 if room > 64 else 64
        if bits == 128 and described.bits <= 64:
            value = self.value(f"zext i64 {value} to i128")
        self.reachable(view)
        if described.bits < room:
            mask = described.mask << described.shift
            old = self.load_wire(view, first, last, bits)
            old = self.value(f"and i{bits} {old}, {~mask & (1 << bits) - 1}")
            value = self.value(f"shl i{bits} {value}, {described.shift}") if described.shift else value
            value = self.value(f"or i{bits} {old}, {self.value(f'and i{bits} {value}, {mask}')}")
        for offset, size in pieces(first, last, self.target.split(self.whole, view)):
            place = self.target.address(self.whole, view, offset)
            self.store_swapped(place, value, (last - offset) * 8 - size, size, bits)

    def store_swapped(self, address: str, value: str, shift: int, size: int, bits: int = 64) -> None:
        part = self.value(f"lshr i{bits} {value}, {shift}") if shift else value
        part = self.value(f"trunc i{bits} {part} to i{size}") if size < bits else part
        if size > 8:
            self.declare(f"declare i{size} @llvm.bswap.i{size}(i{size})")
            part = self.value(f"call i{size} @llvm.bswap.i{size}(i{size} {part})")
        self.emit(f"store i{size} {part}, ptr {address}, align 1")

    def store_host(self, address: str, described: Described, value: str, fits: bool = False) -> None:
        first, size = described.span[0], storage(described.bits) * 8
        if size == 128:
            if described.bits < 128 and not fits:
                value = self.value(f"and i128 {value}, {described.mask}")
            low = self.value(f"trunc i128 {value} to i64")
            high = self.value(f"trunc i128 {self.value(f'lshr i128 {value}, 64')} to i64")
            self.emit(f"store i64 {low}, ptr {self.offset(address, first)}, align 8")
            self.emit(f"store i64 {high}, ptr {self.offset(address, first + 8)}, align 8")
            return
        if described.bits < size and not fits:
            value = self.value(f"and i64 {value}, {described.mask}")
        value = self.value(f"trunc i64 {value} to i{size}") if size < 64 else value
        self.emit(f"store i{size} {value}, ptr {self.offset(address, first)}, align {size // 8}")
