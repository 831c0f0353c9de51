"""Where what is wanted is written down: a small transactional key-value store with a history.

    contract    what a store promises: ranges at a revision, transactions with compares, watches, leases, compaction
    sqlite      it kept on one host, in one file
    shelf       entries of durable tables, a file a network: no history, many small commits
    database    how such files are opened and written, so that a power cut takes nothing from them

The contract is etcd's, in Python's words, because that is what many hosts share; one suite of tests (tests/store) holds
every implementation to it.
"""
from __future__ import annotations

from .contract import (
    Change,
    Compacted,
    Compare,
    Delete,
    Entry,
    LeaseNotFound,
    Outcome,
    Page,
    Put,
    Store,
    StoreError,
    Watch,
)
from .shelf import Shelf
from .sqlite import Sqlite

__all__ = ["Change", "Compacted", "Compare", "Delete", "Entry", "LeaseNotFound", "Outcome", "Page", "Put", "Shelf",
           "Sqlite", "Store", "StoreError", "Watch"]
