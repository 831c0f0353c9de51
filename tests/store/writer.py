"""A process that writes transactions of twenty keys until it is killed.

    python -m tests.store.writer <kind> <directory>

Says each revision that the store has acknowledged.
"""
from __future__ import annotations

import sys

from iovisor.store import Put
from tests.store.stores import STORES


def main(kind: str, directory: str) -> None:
    store = STORES[kind](directory)
    while True:
        number = b"%d" % (store.revision + 1)
        done = store.transact([], [Put(f"k{n}", number + bytes(2000)) for n in range(20)])
        print(done.revision, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
