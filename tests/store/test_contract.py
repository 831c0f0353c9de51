"""What every store promises, one promise a test."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from iovisor.store import (
    Change,
    Compacted,
    Compare,
    Delete,
    Entry,
    LeaseNotFound,
    Outcome,
    Put,
    Store,
    StoreError,
    Watch,
)
from iovisor.store.contract import MOST_BYTES, MOST_OPERATIONS
from tests.store.stores import Clock

Reopen = Callable[[], Store]


def put(store: Store, **values: bytes) -> int:
    return store.transact([], [Put(key, value) for key, value in values.items()]).revision


def content(store: Store, prefix: str = "", revision: int = 0) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in store.range(prefix, revision=revision).entries}


def test_an_entry_knows_its_history(store: Store) -> None:
    assert (store.revision, store.get("a"), store.range("").entries) == (0, None, ())
    assert put(store, a=b"1", b=b"x") == 1
    assert put(store, a=b"2") == 2
    assert store.get("a") == Entry("a", b"2", created=1, modified=2, version=2)
    assert store.get("a", 1) == Entry("a", b"1", created=1, modified=1, version=1)
    assert store.transact([], [Delete("a")]) == Outcome(True, 3)
    assert store.get("a") is None
    assert put(store, a=b"3") == 4
    assert store.get("a") == Entry("a", b"3", created=4, modified=4, version=1)


def test_a_range_shows_a_revision(store: Store) -> None:
    put(store, **{"t/a": b"1", "t/b": b"1", "u": b"1"})
    put(store, **{"t/b": b"2"})
    store.transact([], [Delete("t/", prefix=True), Put("v", b"3")])
    assert content(store, "t/", 1) == {"t/a": b"1", "t/b": b"1"}
    assert content(store, "t/", 2) == {"t/a": b"1", "t/b": b"2"}
    assert content(store, "t/") == {}
    assert content(store) == {"u": b"1", "v": b"3"}
    assert store.range("", revision=2).revision == 2
    with pytest.raises(ValueError, match="revision 4 is still to come; the store is at 3"):
        store.range("", revision=4)


def test_a_range_in_pages(store: Store) -> None:
    keys = ["a", "b", "b/1", "b/é", "b/\U0010ffff", "bb", "c"]
    store.transact([], [Put(key, b"") for key in reversed(keys)])
    assert [entry.key for entry in store.range("").entries] == keys
    found, after = [], ""
    while True:
        page = store.range("b", after=after, limit=2)
        found.append([entry.key for entry in page.entries])
        if not page.more:
            break
        after = page.entries[-1].key
    assert found == [["b", "b/1"], ["b/é", "b/\U0010ffff"], ["bb"]]


def test_a_transaction_compares(store: Store) -> None:
    put(store, a=b"5")
    entry = store.get("a")
    assert entry is not None
    holds = [Compare.absent("b"), Compare.present("a"), Compare.unchanged(entry), Compare("a", "value", b"5"),
             Compare("a", "value", b"6", "<"), Compare("a", "version", 0, ">"), Compare("a", "created", 1),
             Compare("a", "value", b"4", "!="), Compare("b", "version", 0)]
    fails = [Compare.absent("a"), Compare.present("b"), Compare("a", "modified", 2), Compare("b", "value", b"5", "!="),
             Compare("a", "value", b"5", ">")]
    assert store.transact(holds, [Put("yes", b"")], [Put("no", b"")]) == Outcome(True, 2)
    for compare in fails:
        assert not store.transact([*holds[1:], compare], [Put("no", b"")]).succeeded
    assert store.transact(fails, [Put("no", b"")], [Put("b", b"1"), Delete("yes")]) == Outcome(False, 3)
    assert content(store) == {"a": b"5", "b": b"1"}
    with pytest.raises(ValueError, match="a value is compared with bytes"):
        store.transact([Compare("a", "value", 5)], [])


def test_what_changes_nothing_is_no_revision(store: Store) -> None:
    put(store, a=b"1")
    assert store.transact([], []).revision == 1
    assert store.transact([], [Delete("b"), Delete("x", prefix=True)]).revision == 1
    assert store.transact([Compare.absent("a")], [Put("a", b"2")]) == Outcome(False, 1)
    assert put(store, a=b"1") == 2


@pytest.mark.parametrize(("operations", "message"), [
    ([Put("a", b"1"), Put("a", b"2")], "a transaction writes a key once"),
    ([Put("a/b", b"1"), Delete("a/", prefix=True)], "cannot both write and delete 'a/'"),
    ([Put("", b"1")], "a key has one character or more"),
    ([Put(f"{n}", b"") for n in range(MOST_OPERATIONS + 1)], "at most 128 operations, not 129"),
    ([Put("a", bytes(MOST_BYTES))], "at most 1048576 bytes, not 1048577"),
])
def test_refused(store: Store, operations: list[Put | Delete], message: str) -> None:
    put(store, a=b"1")
    with pytest.raises(ValueError, match=message):
        store.transact([], operations)
    assert (store.revision, content(store)) == (1, {"a": b"1"})


def test_a_watch_tells_every_change(store: Store) -> None:
    put(store, **{"t/a": b"1", "u": b"1"})
    with store.watch("t/", 1) as old, store.watch("t/") as new:
        assert old.read(0) == [Change(1, "t/a", store.get("t/a"))]
        assert (old.read(0), new.read(0)) == ([], [])
        put(store, **{"t/b": b"2", "t/a": b"2"})
        second = [store.get("t/a"), store.get("t/b")]
        put(store, u=b"3")
        store.transact([], [Delete("t/a")])
        expected = [Change(2, "t/a", second[0]), Change(2, "t/b", second[1]), Change(4, "t/a", None)]
        assert old.read(0) == new.read(0) == expected
    with store.watch("", 7) as future:
        put(store, a=b"5")
        put(store, a=b"6")
        assert future.read(0) == []
        put(store, a=b"7")
        assert [change.revision for change in future.read(0)] == [7]


def collect(watch: Watch, until: int) -> list[Change]:
    found: list[Change] = []
    while not found or found[-1].revision < until:
        found += watch.read(30) or pytest.fail("nothing came")
    return found


def test_a_watch_wakes_and_has_no_gaps(store: Store, reopen: Reopen) -> None:
    """Two writers, one of them by another way into the store, each of 40 transactions of two keys."""
    other, found = reopen(), []
    with store.watch("") as watch:
        reader = threading.Thread(target=lambda: found.extend(collect(watch, 80)))
        reader.start()
        writers = [threading.Thread(target=lambda s=s, n=n: [put(s, **{f"{n}a": b"%d" % i, f"{n}b": b"%d" % i})
                                                            for i in range(40)])
                   for n, s in enumerate((store, other))]
        for writer in writers:
            writer.start()
        for thread in [*writers, reader]:
            thread.join(60)
    other.close()
    assert [change.revision for change in found] == [n for n in range(1, 81) for _ in range(2)]
    for writer_number in ("0", "1"):
        for key in ("a", "b"):
            values = [change.entry.value for change in found if change.key == writer_number + key and change.entry]
            assert values == [b"%d" % i for i in range(40)]


def test_a_closed_watch_ends(store: Store) -> None:
    watch, ended = store.watch(""), threading.Event()

    def read() -> None:
        with pytest.raises(StoreError, match="closed"):
            watch.read()
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.02)
    watch.close()
    assert ended.wait(10)
    reader.join()


def test_compare_and_swap_by_many(store: Store, reopen: Reopen) -> None:
    """No increment is lost, whoever else increments."""
    put(store, n=b"0")

    def increment(through: Store) -> None:
        for _ in range(25):
            while True:
                entry = through.get("n")
                assert entry is not None
                if through.transact([Compare.unchanged(entry)], [Put("n", b"%d" % (int(entry.value) + 1))]).succeeded:
                    break

    others = [reopen(), reopen()]
    threads = [threading.Thread(target=increment, args=[s]) for s in (store, store, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for other in others:
        other.close()
    assert (content(store), store.revision) == ({"n": b"100"}, 101)


def test_compaction(store: Store) -> None:
    put(store, a=b"1", b=b"1")
    put(store, a=b"2")
    store.transact([], [Delete("b")])
    put(store, c=b"4")
    lagging = store.watch("", 2)
    store.compact(3)
    assert content(store, "", 3) == {"a": b"2"}
    assert content(store) == {"a": b"2", "c": b"4"}
    assert store.get("a") == Entry("a", b"2", created=1, modified=2, version=2)
    for ask in (lambda: store.range("", revision=2), lambda: store.get("a", 1), lambda: store.watch("", 3),
                lambda: lagging.read(0), lambda: store.compact(3)):
        with pytest.raises(Compacted, match="is compacted; the oldest that is kept is 3") as caught:
            ask()
        assert caught.value.oldest == 3
    with store.watch("", 4) as watch:
        assert [change.key for change in watch.read(0)] == ["c"]
    with pytest.raises(ValueError, match="revision 9 is still to come"):
        store.compact(9)


def test_a_lease_runs_out(store: Store, clock: Clock) -> None:
    lease = store.grant(10)
    store.transact([], [Put("a", b"1", lease), Put("b", b"1", lease), Put("c", b"1")])
    entry = store.get("a")
    assert entry is not None and entry.lease == lease
    put(store, b=b"2")                                      # b is under no lease any more
    clock.now += 9
    store.keep_alive(lease)
    clock.now += 9
    assert set(content(store)) == {"a", "b", "c"}
    with store.watch("") as watch:
        clock.now += 1
        assert watch.read(10) == [Change(3, "a", None)]
    assert content(store) == {"b": b"2", "c": b"1"}
    for ask in (lambda: store.keep_alive(lease), lambda: store.revoke(lease),
                lambda: store.transact([], [Put("z", b""), Put("a", b"", lease)])):
        with pytest.raises(LeaseNotFound, match="does not exist, or has run out"):
            ask()
    assert store.get("z") is None
    assert store.grant(1) != lease


def test_a_lease_is_revoked(store: Store) -> None:
    lease, other = store.grant(10), store.grant(10)
    store.transact([], [Put("a", b"", lease), Put("b", b"", other)])
    store.revoke(lease)
    assert set(content(store)) == {"b"}
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a lease lasts for some seconds"):
            store.grant(seconds)


def test_opened_again(store: Store, reopen: Reopen) -> None:
    put(store, a=b"1")
    put(store, a=b"2")
    lease = store.grant(5)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get("a")
    again = reopen()
    assert (content(again), content(again, "", 1), again.revision) == ({"a": b"2"}, {"a": b"1"}, 2)
    again.keep_alive(lease)
    again.close()
