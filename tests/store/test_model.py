"""Whatever is done to a store in whatever order, it is what a list of dictionaries would be."""
from __future__ import annotations

import tempfile
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from iovisor.store import Compacted, Compare, Delete, Put, Store
from tests.store.stores import STORES, Clock

KEYS = st.sampled_from(["a", "a/b", "a/b/c", "a/ÿ", "b"])
VALUES = st.binary(max_size=2)


class Machine(RuleBasedStateMachine):
    """The model: of every revision, all keys and their values."""

    kind = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.clock = tempfile.TemporaryDirectory(), Clock()
        self.store: Store = STORES[self.kind](self.folder.name, self.clock)
        self.past: list[dict[str, tuple[bytes, int]]] = [{}]
        self.leases: dict[int, float] = {}
        self.compacted = 0
        self.watch, self.told = self.store.watch("a"), dict[str, bytes]()

    def happened(self, now: dict[str, tuple[bytes, int]], changed: bool) -> None:
        if changed:
            self.past.append(now)

    @rule(puts=st.dictionaries(KEYS, VALUES, max_size=3), deletes=st.sets(KEYS, max_size=2), wide=st.booleans(),
          compare=st.none() | st.tuples(KEYS, VALUES), lease=st.integers(0, 2))
    def transact(self, puts: dict[str, bytes], deletes: set[str], wide: bool, compare: tuple[str, bytes] | None,
                 lease: int) -> None:
        number = [0, *self.leases][min(lease, len(self.leases))]
        then: list[Any] = [Put(key, value, number) for key, value in puts.items()]
        gone = {d for d in deletes if not any(k.startswith(d) if wide else k == d for k in puts)}
        then += [Delete(key, prefix=wide) for key in gone]
        now = self.past[-1]
        holds = compare is None or now.get(compare[0], (None,))[0] == compare[1]
        done = self.store.transact([Compare(compare[0], "value", compare[1])] if compare else [], then)
        assert done.succeeded is holds
        if holds:
            after = {key: value for key, value in now.items()
                     if not any(key.startswith(d) if wide else key == d for d in gone)}
            changed = bool(puts) or len(after) < len(now)
            self.happened({**after, **{key: (value, number) for key, value in puts.items()}}, changed)
        assert done.revision == len(self.past) - 1

    @rule(seconds=st.integers(1, 3))
    def grant(self, seconds: int) -> None:
        self.leases[self.store.grant(seconds)] = self.clock.now + seconds

    @rule(seconds=st.integers(0, 2))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds
        ended = {lease for lease, end in self.leases.items() if end <= self.clock.now}
        self.leases = {lease: end for lease, end in self.leases.items() if lease not in ended}
        left = {key: value for key, value in self.past[-1].items() if value[1] not in ended}
        self.happened(left, len(left) < len(self.past[-1]))

    @precondition(lambda self: self.leases)
    @rule()
    def revoke(self) -> None:
        lease, _ = self.leases.popitem()
        self.store.revoke(lease)
        left = {key: value for key, value in self.past[-1].items() if value[1] != lease}
        self.happened(left, len(left) < len(self.past[-1]))

    @precondition(lambda self: len(self.past) - 1 > self.compacted)
    @rule(back=st.integers(0, 3))
    def compact(self, back: int) -> None:
        self.read()
        self.compacted = max(self.compacted + 1, len(self.past) - 1 - back)
        self.store.compact(self.compacted)

    @rule()
    def read(self) -> None:
        for change in self.watch.read(0):
            if change.entry is None:
                del self.told[change.key]
            else:
                self.told[change.key] = change.entry.value
        assert self.told == {k: v for k, (v, _) in self.past[-1].items() if k.startswith("a")}

    @rule()
    def open_again(self) -> None:
        self.read()
        self.store.close()
        self.store = STORES[self.kind](self.folder.name, self.clock)
        self.watch = self.store.watch("a")

    @rule(back=st.integers(0, 5), prefix=st.sampled_from(["", "a", "a/b", "a/", "b", "c"]))
    def look(self, back: int, prefix: str) -> None:
        revision = max(len(self.past) - 1 - back, 0)
        if 0 < revision < self.compacted:
            with pytest.raises(Compacted):
                self.store.range(prefix, revision=revision)
        elif revision:
            found = {entry.key: (entry.value, entry.lease)
                     for entry in self.store.range(prefix, revision=revision).entries}
            assert found == {k: v for k, v in self.past[revision].items() if k.startswith(prefix)}

    @invariant()
    def same(self) -> None:
        assert self.store.revision == len(self.past) - 1
        assert {entry.key: (entry.value, entry.lease) for entry in self.store.range("").entries} == self.past[-1]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


def test_a_store_is_its_model(kind: str, nightly: bool) -> None:
    machine = type("Machine", (Machine,), {"kind": kind})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=1000 if nightly else 40, stateful_step_count=25, deadline=None, derandomize=not nightly))
