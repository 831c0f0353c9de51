"""The entries of one table made those of another, while packets write both.

    copy        everything, while the old programs run on and write the old table
    copy        what has changed since: little
    ──────      the roots are turned: what comes from here on runs the new programs, and writes the new table
    grace       nobody writes the old table any more
    copy        what has changed since: the last

So nothing that was written is lost.  Who wins, where both were written: *the new table*, because it was written later.
An entry is carried over only if the new programs have not touched what the copy before it left there: inserting is one
step for the kernel (`NEW`), so that nothing comes between; replacing is looking and then writing, so there some
microseconds remain in which one of two writes to an entry that both programs write at that moment is the one that
stays.  An entry that the old programs have removed goes, on the same condition.

A handler that began before the change holds the old function.  Its tables follow (`Following`): what it writes is
converted, too.
"""
from __future__ import annotations

from ..kernel import Map
from ..language.migration import Migration
from ..language.tables import ANY, NEW, PRESENT, TableSpec
from ..targets.homes import KernelHome


class Conversion:
    """Of one table.  `copy` as often as it takes."""

    def __init__(self, name: str, migration: Migration, new: KernelHome) -> None:
        self.name, self.migration, self.new = name, migration, new
        home = migration.since.home
        assert isinstance(home, KernelHome)
        self.old = home
        self._seen: dict[bytes, bytes] = {}
        self._made: dict[bytes, tuple[bytes, bytes]] = {}
        # The entries of an array are all there: what nobody wrote is zero.
        self._blank = bytes(new.spec.stored_size) if new.spec.kind == "array" else None

    def copy(self) -> None:
        """Carry over what has changed since the last call.  ValueError: an entry is refused, or has no room."""
        now = dict(self.old.items())
        for key in self._seen.keys() - now.keys():
            self._remove(key)
        for key, value in now.items():
            if self._seen.get(key) != value:
                self._carry(key, value)
        self._seen = now

    def _carry(self, key: bytes, value: bytes) -> None:
        try:
            entry = self.migration.converted(key, value)
        except Exception as error:
            what = getattr(self.migration.convert, "__qualname__", "the method that converts")
            raise ValueError(f"{what} cannot convert the entry {key.hex()}: {value.hex()} of {self.name}: "
                             f"{error!r}") from error
        before = self._made.get(key)
        if before is not None and (entry is None or entry[0] != before[0]):
            self._remove(key)
            before = None
        if entry is None:
            return
        if before is not None or self._blank is not None:
            if not self._holds(entry[0], before[1] if before is not None else self._blank):
                return                                      # the new programs have written it
            stored = self.new.update(*entry, ANY if self._blank is not None else PRESENT)
        else:
            stored = self.new.update(*entry, NEW)
            if not stored and self.new.lookup(entry[0]) is None:
                raise ValueError(f"{self.name} has no room for its own entries: the new one takes {self.new.spec.size}")
        if stored:
            self._made[key] = entry

    def _remove(self, key: bytes) -> None:
        made = self._made.pop(key, None)
        if made is not None and self._holds(*made):
            if self._blank is None:
                self.new.delete(made[0])
            else:
                self.new.update(made[0], self._blank, ANY)

    def _holds(self, key: bytes, value: bytes | None) -> bool:
        found = self.new.lookup(key)
        return found is not None and bytes(found) == value

    def following(self) -> Following:
        """What the old function's table is from here on."""
        assert self.migration.to is not None
        if isinstance(self.migration.to.home, KernelHome):
            self.new = self.migration.to.home               # a durable one has another above it
        return Following(self.old.spec, self.old.map, self)

    def follow(self, key: bytes) -> None:
        """Carry over what has been written to the old table since the last copy, under one key."""
        value = self.old.map.lookup(key)
        if value is None:
            self._remove(key)
            self._seen.pop(key, None)
        else:
            self._carry(key, value)
            self._seen[key] = value


class Following(KernelHome):
    """The table of a function that has been replaced: it keeps what it had, and what is written is also converted."""

    def __init__(self, spec: TableSpec, found: Map, conversion: Conversion) -> None:
        super().__init__(spec, found)
        self._conversion = conversion

    def update(self, key: bytes, value: bytes, mode: int) -> bool:
        done = super().update(key, value, mode)
        if done:
            self._conversion.follow(key)
        return done

    def delete(self, key: bytes) -> bool:
        done = super().delete(key)
        self._conversion.follow(key)
        return done
