"""Durable tables: what a function's Python writes is on disk before anything says so.

    a handler writes ──► pending ──► flying ──► on disk ──► in the kernel ──► what the handler sent leaves
                        (the next    (a thread
                         batch)       commits it)

*Disk first, then the kernel, then the frames.*  The kernel answers by what is in its tables (a known DHCP client, say),
so an entry that it had before the disk could be promised by a packet that Python never sees; and one that Python has
ended could be made longer.  Therefore what is written is in an overlay (overlay.py) until it is committed, where the
function's own Python finds it, and in the kernel there is no such entry meanwhile.  A frame that a function sends while
it has written something waits for that.  What is written while a batch is being committed is the next batch: the more
there is to do, the more answers share a commit, and nobody waits for a disk with empty hands.

The data path neither adds nor removes entries (the compiler refuses), so which there are is known here.  It may change
them in place; that is saved every `SAVE` seconds, and what of it a power cut takes is the function's to make good: it
is told when the last save was (`Function.restored`, recovery.py).

A process that dies leaves the kernel with fewer entries than the disk, never with others: whoever adopts the network
puts back what is missing.

If a batch cannot be committed, it stays pending and is tried again; its frames are gone, and counted as failed
handlers.  Nothing is answered that is not on disk: clients ask again.

Rejected: the kernel first, which is simpler (there would be no overlay) and wrong as said above; leaving the former
entry in the kernel meanwhile, which then answers by what is no more (the machine of tests/functions/test_dhcp_power.py
found a released lease made longer so); a commit for every answer (4 ms each, where this was measured).
"""
from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from ..language.function import Function
from ..language.tables import Table
from .instance import Instance
from .overlay import Batch, DurableHome
from .recovery import Former, former
from .shelf import Change, Era, Shelf, Unkept, alike, label

SAVE = 30.0                     # seconds between two saves of what the data path has changed
QUIET = 600 * 10**9             # nanoseconds after which a save is noted though nothing has changed
PIECE = 1000                    # entries of one commit of a save
AGAIN = 1.0                     # seconds until what could not be committed is tried again
Found = tuple[str, bytes, bytes, bytes | None]          # that the data path changed: place, key, value, what is on disk
log = logging.getLogger(__name__)


class Kept(Protocol):
    """An instance, to those who keep its tables."""

    @property
    def at(self) -> str: ...
    @property
    def function(self) -> Function: ...


class Durable:
    """The durable tables of one network; without a shelf they are tables like others.

    `failed` is told of an instance whose frame did not leave.
    """

    def __init__(self, shelf: Shelf | None, failed: Callable[[Instance], None], era: Era | None = None) -> None:
        self.shelf, self._era, self._failed = shelf, era, failed
        self.lock = threading.RLock()
        self.homes: dict[str, DurableHome] = {}
        self.stored: dict[str, dict[bytes, bytes]] = {}         # by place: what lies on the shelf
        self.trouble = ""                                       # why what is pending cannot be committed
        self._pending = Batch()
        self._flying: Batch | None = None
        self._together = self._writes = 0
        self._soon: asyncio.AbstractEventLoop | None = None       # who begins a commit soon
        self._saved = 0
        self._thread: ThreadPoolExecutor | None = None

    # -- what a function's Python does -------------------------------------------------------------------------------

    def above(self, place: str) -> list[dict[bytes, bytes | None]]:
        """What was written to a table and is not in the kernel yet, the latest first."""
        flying = self._flying
        return [batch.writes[place] for batch in (self._pending, flying) if batch is not None and place in batch.writes]

    def write(self, place: str, changes: Mapping[bytes, bytes | None]) -> None:
        """Soon on disk, and then in the kernel."""
        with self.lock:
            self._pending.writes.setdefault(place, {}).update(changes)
            self._writes += 1
            busy = self._soon if self._flying is None else self._flying.loop
            if self._together or (busy is not None and not busy.is_closed()):
                return
            try:
                self._soon = asyncio.get_running_loop()
            except RuntimeError:                                # nobody would come back to it
                self.flush()
            else:
                self._soon.call_soon(self._begin, self._soon)

    def after(self, instance: Instance, do: Callable[[], None]) -> None:
        """Let a frame of an instance leave when all it has written is on disk."""
        with self.lock:
            for batch in (self._pending, self._flying):
                if batch is not None and batch.of(instance.name):
                    batch.frames.append((instance, do))
                    return
        do()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written meanwhile is committed at the end, if nobody commits it before."""
        with self.lock:
            self._together += 1
            try:
                yield
            finally:
                self._together -= 1
            if not self._together and self._pending.writes:
                self.write(next(iter(self._pending.writes)), {})

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is written meanwhile is on disk at the end.  Unkept: it is not."""
        before = self._writes
        yield
        if self._writes != before:
            self.flush()

    # -- committing --------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """What was written is on disk and in the kernel when this returns; Unkept: not all of it."""
        with self.lock:
            if self._flying is not None:
                self._land(self._flying)
            if self._pending.writes:
                batch = self._take()
                batch.future = self._commit(batch)
                self._land(batch)
            if self.trouble:
                raise Unkept(f"durable tables cannot be kept: {self.trouble}")

    def _take(self) -> Batch:
        assert self._flying is None
        batch = self._flying = self._pending
        self._pending = Batch()
        return batch

    def _commit(self, batch: Batch, labels: Mapping[str, str] | None = None,
                emptied: Iterable[str] = ()) -> Future[None]:
        """Begin to; all commits are made by one thread, in order."""
        return self._run(batch.changes(), labels or {}, emptied)

    def _run(self, changes: Iterable[Change], labels: Mapping[str, str], emptied: Iterable[str] = ()) -> Future[None]:
        assert self.shelf is not None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "durable")
        return self._thread.submit(self.shelf.commit, changes, labels, emptied)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.lock:
            self._soon = None
            if self._flying is not None or not self._pending.writes:
                return
            batch = self._take()
            batch.future, batch.loop = self._commit(batch), loop

            def done(_: object) -> None:
                with contextlib.suppress(RuntimeError):         # the loop has ended: `flush` comes
                    loop.call_soon_threadsafe(self._landed, batch, loop)
            batch.future.add_done_callback(done)

    def _landed(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        with self.lock:
            if self._flying is batch:
                self._land(batch)
            if self._pending.writes and self._flying is None and self._soon is None:
                self._soon = loop
                if self.trouble:
                    loop.call_later(AGAIN, self._begin, loop)
                else:
                    self._begin(loop)

    def _land(self, batch: Batch) -> None:
        """A commit has ended, or is waited for: carry it out in the kernel, and let the frames go."""
        assert batch.future is not None
        try:
            batch.future.result()
        except Exception as error:
            self._flying = None
            for place, writes in self._pending.writes.items():
                batch.writes.setdefault(place, {}).update(writes)
            self._pending.writes = batch.writes
            if not self.trouble:
                log.exception("durable tables cannot be kept")
            self.trouble = str(error) or type(error).__name__
            for instance, _ in batch.frames:
                self._failed(instance)
            return
        self.trouble = ""
        self._carry_out(batch)
        self._flying = None
        for instance, leave in batch.frames:
            try:
                leave()
            except Exception:
                self._failed(instance)

    def _carry_out(self, batch: Batch) -> None:
        for place, writes in batch.writes.items():
            home, stored = self.homes.get(place), self.stored.get(place)
            if home is None or stored is None:
                continue
            fresh = {key: value for key, value in writes.items() if value is not None}
            for key in writes.keys() - fresh.keys():
                stored.pop(key, None)
            stored |= fresh
            if fresh and not home.beneath.store(fresh):
                self.trouble = f"{home.spec.name} of {place.partition(':')[0]} has no room in the kernel"
                log.error("%s", self.trouble)

    @property
    def era(self) -> Era:
        if self._era is None:
            self._era = Era.here()
        return self._era

    # -- what the data path has changed --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Save it now and then, until cancelled."""
        while True:
            await asyncio.sleep(SAVE)
            if not self.homes:
                continue
            moment, changed = self.era.now(), self._changed()
            piece: list[Found] = []
            try:
                for first in range(0, len(changed), PIECE):
                    piece = changed[first:first + PIECE]
                    await asyncio.wrap_future(self._saving(piece))
                piece = []
                if changed or moment - self._saved > QUIET:
                    await asyncio.wrap_future(self._run((), self._labels(moment)))
                    self._saved = moment
            except Exception as error:
                self._note((place, key, kept) for place, key, value, kept in piece
                           if place in self.homes and self.stored[place].get(key) is value)
                if not self.trouble:
                    log.exception("durable tables cannot be saved")
                self.trouble = str(error) or type(error).__name__

    def save(self) -> None:
        """What is in the tables now is on disk when this returns."""
        if self.homes:
            with self.lock:
                self.flush()
                moment = self.era.now()
                changed = [(place, key, value) for place, key, value, _ in self._changed()]
                self._wait(self._run(changed, self._labels(moment)))
                self._note(changed)
                self._saved = moment

    def _wait(self, future: Future[None]) -> None:
        try:
            future.result()
        except Exception as error:
            raise Unkept(f"durable tables cannot be kept: {error}") from error

    def _changed(self) -> list[Found]:
        """Entries that are not in the kernel what they are on disk: place, key, value, what is on disk."""
        found = []
        for place, home in self.homes.items():
            stored, above = self.stored[place], self.above(place)
            for key, value in home.beneath.items():
                kept = stored.get(key)
                if kept != value and not any(key in writes for writes in above):
                    found.append((place, key, bytes(value), kept))
        return found

    def _saving(self, changed: list[Found]) -> Future[None]:
        """Begin to commit a piece of what was found changed, but for what was written meanwhile."""
        with self.lock:
            still = [(place, key, value) for place, key, value, kept in changed
                     if place in self.homes and self.stored[place].get(key) is kept
                     and not any(key in writes for writes in self.above(place))]
            self._note(still)
            return self._run(still, {})

    def _note(self, changed: Iterable[Change]) -> None:
        for place, key, value in changed:
            if value is None:
                self.stored[place].pop(key, None)
            else:
                self.stored[place][key] = value

    def _labels(self, moment: int) -> dict[str, str]:
        return {place: label(home.spec, self.era, moment) for place, home in self.homes.items()}

    # -- tables that come and go ---------------------------------------------------------------------------------------

    def tables(self, function: Function) -> dict[str, Table[object, object]]:
        """Those of a function that are durable, by name; none without a shelf."""
        return {} if self.shelf is None else {name: table for name, table in function.tables.items()
                                              if table.spec.durable}

    def former(self, name: str, function: Function) -> Former | None:
        """What was kept of an instance that is not there any more; see recovery.py."""
        if self.shelf is None or not self.tables(function):
            return None
        return former(self.shelf, self.era, name, function)

    def begin(self, instance: Kept, former: Former | None = None) -> None:
        """Keep the tables of an instance, with what there was of a former one besides what is in them."""
        at, function = instance.at, instance.function
        if not self.tables(function):
            return
        with self.together():
            self.flush()
            fresh = self._wrap(at, function)
            try:
                if former is not None:
                    for name, entries in former.entries.items():
                        fresh[f"{at}/{name}"].store(entries)
                    function.restored(former.since)
                self._rewrite(fresh, former.places if former is not None else ())
            except BaseException:
                self._unwrap(function, fresh)
                raise

    def resume(self, instances: Iterable[Kept]) -> None:
        """Keep the tables of instances that the kernel has and that were kept before.

        What is on disk and not in the kernel was being written when the process died, and is put back.  What the data
        path had changed of it is lost, as in a power cut.
        """
        functions = {one.at: one.function for one in instances if self.tables(one.function)}
        if not functions:
            return
        assert self.shelf is not None
        labels = {place: json.loads(text) for place, text in self.shelf.places().items()}
        for at, function in functions.items():
            wrapped = self._wrap(at, function)
            known = {place: home for place, home in wrapped.items() if place in labels
                     and alike(labels[place], home.spec)}
            since = None
            for place, home in known.items():
                self.stored[place] = self.shelf.entries(place)
                there = {key for key, _ in home.beneath.items()}
                missing = {key: value for key, value in self.stored[place].items() if key not in there}
                if missing:
                    home.beneath.store(missing)
                    home.count()
                    since = min(since or labels[place]["saved"], labels[place]["saved"])
            with self.together():
                if since is not None:
                    function.restored(since)
                self.flush()
                self._rewrite({place: home for place, home in wrapped.items() if place not in known},
                              [place for place in labels if place.startswith(f"{at}/") and place not in known])

    def follow(self, instances: Iterable[Kept]) -> None:
        """Functions have changed, and perhaps their tables."""
        if self.shelf is None:
            return
        self.flush()
        for instance in instances:
            at, function = instance.at, instance.function
            tables = self.tables(function)
            new = {f"{at}/{name}": table for name, table in tables.items() if table.home is not
                   self.homes.get(f"{at}/{name}")}
            gone = [place for place in self.homes if place.startswith(f"{at}/") and
                    place.removeprefix(f"{at}/") not in tables]
            if new or gone:
                for place in gone:
                    self._forget(place)
                self._rewrite(self._wrap(at, function), [*gone, *new])

    def drop(self, instance: Kept) -> None:
        """What was kept of an instance is forgotten, with it."""
        gone = [place for place in self.homes if place.startswith(f"{instance.at}/")]
        if gone:
            with self.lock:
                self.flush()
                self._wait(self._run((), {}, gone))
                for place in gone:
                    self._forget(place)

    def release(self, instance: Kept) -> None:
        """Keep the tables of an instance no more; what is kept of them stays, for whoever takes its place."""
        with self.lock:
            for place in [place for place in self.homes if place.startswith(f"{instance.at}/")]:
                self._forget(place)

    def leave(self) -> None:
        """Let go of everything."""
        if self._thread is not None:
            self._thread.shutdown()
        if self.shelf is not None:
            self.shelf.close()
        self.homes.clear()

    def _wrap(self, at: str, function: Function) -> dict[str, DurableHome]:
        """Put overlays on durable tables that have none; answers theirs."""
        fresh = {}
        for name, table in self.tables(function).items():
            if table.home is not self.homes.get(f"{at}/{name}"):
                home = DurableHome(f"{at}/{name}", table.spec, table.home, self)
                fresh[home.place] = self.homes[home.place] = home
                self.stored[home.place], table.home = {}, home
        return fresh

    def _unwrap(self, function: Function, fresh: Mapping[str, DurableHome]) -> None:
        for table in function.tables.values():
            if isinstance(table.home, DurableHome) and table.home.place in fresh:
                table.home = table.home.beneath
        for place in fresh:
            self._forget(place)
            self._pending.writes.pop(place, None)

    def _rewrite(self, homes: Mapping[str, DurableHome], emptied: Iterable[str]) -> None:
        """Commit tables as they are, in the place of whatever was there."""
        emptied = {*emptied, *homes}
        if not emptied:
            return
        batch = self._take()
        for place, home in homes.items():
            writes = batch.writes[place] = dict(batch.writes.get(place, {}))
            writes |= dict(home.items())
        moment = self.era.now()
        labels = {place: label(home.spec, self.era, moment) for place, home in homes.items()}
        batch.future = self._commit(batch, labels, emptied)
        try:
            self._wait(batch.future)
        except BaseException:
            self._flying = None
            raise
        self._land(batch)

    def _forget(self, place: str) -> None:
        self.homes.pop(place, None)
        self.stored.pop(place, None)


__all__ = ["SAVE", "Durable"]
