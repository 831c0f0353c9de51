"""What the platform keeps in its store: tenants, networks and every revision of them, tokens, snapshots.

    /iovisor/v1/tenants/<tenant>
    /iovisor/v1/heads/<tenant>/<network>                 which revision is current, and what waits for a confirmation
    /iovisor/v1/revisions/<tenant>/<network>/<number>    the document, never changed once it is written
    /iovisor/v1/confirmations/<tenant>/<network>         under a lease: while it is there, a confirmation may come
    /iovisor/v1/snapshots/<tenant>/<network>/<name>
    /iovisor/v1/tokens/<sha256 of the token>

A head and its revision are written in one transaction that compares the head, so two daemons that change one network
cannot both succeed, and what is current always exists.  Names have no slash, so no key is part of another's.
"""
from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from ..store import Compare, Delete, Entry, Put, Store

ROOT = "/iovisor/v1/"
R = TypeVar("R")


@dataclass(frozen=True)
class Revision:
    """A network as it was applied.  `own` are the modules of the authors' files, `ports` the choices of lowering."""

    number: int
    at: float
    by: str
    message: str
    document: dict[str, Any]
    own: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Head:
    """Which revision is current (0: none); with `unconfirmed`, the one to go back to unless it is confirmed.

    `numbers` is the highest revision there was: numbers are never used again.  `made` is the store's revision of what
    this was read from.
    """

    tenant: str
    network: str
    current: int = 0
    numbers: int = 0
    seed: str = ""
    unconfirmed: int | None = None
    until: float = 0.0
    modified: int = 0

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.network}"


@dataclass(frozen=True)
class Token:
    """Who may do what.  `role` is admin, owner or viewer; `tenant` is empty for an admin."""

    id: str
    name: str
    role: str
    tenant: str
    at: float


@dataclass(frozen=True)
class Snapshot:
    """A revision at a moment, and a file with what its functions had learned, if that was asked for."""

    name: str
    at: float
    by: str
    revision: int
    document: dict[str, Any]
    own: dict[str, str]
    ports: dict[str, int]
    seed: str
    memory: bool


class Conflict(Exception):
    """Somebody else has changed it meanwhile."""


class Records:
    """The store, in the platform's words."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- tenants -----------------------------------------------------------------------------------------------------

    def tenants(self) -> dict[str, dict[str, Any]]:
        """Documents of tenants by name."""
        return {_last(entry): json.loads(entry.value) for entry in self._all("tenants/")}

    def tenant(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._get(f"tenants/{name}")
        return found

    def put_tenant(self, name: str, document: Mapping[str, Any]) -> None:
        self.store.transact([], [Put(f"{ROOT}tenants/{name}", _bytes(document))])

    def drop_tenant(self, name: str) -> None:
        """Forget a tenant, and its tokens."""
        tokens = [Delete(f"{ROOT}tokens/{digest}") for digest, token in self._tokens() if token.tenant == name]
        self.store.transact([], [Delete(f"{ROOT}tenants/{name}"), *tokens])

    # -- networks ----------------------------------------------------------------------------------------------------

    def heads(self, tenant: str = "") -> list[Head]:
        """Of all networks, or of a tenant's."""
        return [_head(entry) for entry in self._all(f"heads/{tenant}/" if tenant else "heads/")]

    def head(self, tenant: str, network: str) -> Head | None:
        entry = self.store.get(f"{ROOT}heads/{tenant}/{network}")
        return None if entry is None else _head(entry)

    def revision(self, tenant: str, network: str, number: int) -> Revision | None:
        found = self._get(f"revisions/{tenant}/{network}/{number:08}")
        return None if found is None else Revision(**found)

    def revisions(self, tenant: str, network: str) -> list[Revision]:
        """All, the first one first."""
        return [Revision(**json.loads(entry.value)) for entry in self._all(f"revisions/{tenant}/{network}/")]

    def advance(self, head: Head, revision: Revision, tenant: Mapping[str, Any] | None = None,
                confirm: float = 0.0) -> Head:
        """Make a revision current, in one transaction; Conflict if the head is not what it was.

        `tenant` is written along if there is no such tenant yet.  With `confirm`, so many seconds for a confirmation.
        """
        unconfirmed = head.unconfirmed if head.unconfirmed is not None and confirm else head.current
        lease = self.store.grant(confirm) if confirm else 0
        after = replace(head, current=revision.number, numbers=max(head.numbers, revision.number),
                        unconfirmed=unconfirmed if confirm else None, until=time.time() + confirm if confirm else 0.0)
        waiting = f"{ROOT}confirmations/{head.key}"
        operations = [Put(f"{ROOT}heads/{head.key}", _bytes(_plain(after))),
                      Put(f"{ROOT}revisions/{head.key}/{revision.number:08}", _bytes(asdict(revision))),
                      Put(waiting, b"", lease) if confirm else Delete(waiting)]
        if tenant is not None:
            operations.append(Put(f"{ROOT}tenants/{head.tenant}", _bytes(tenant)))
        return self._commit(head, after, operations)

    def confirm(self, head: Head) -> Head:
        """The current revision stays."""
        after = replace(head, unconfirmed=None, until=0.0)
        return self._commit(head, after, [Put(f"{ROOT}heads/{head.key}", _bytes(_plain(after))),
                                          Delete(f"{ROOT}confirmations/{head.key}")])

    def overdue(self, head: Head) -> bool:
        """Whether its confirmation did not come in time."""
        return head.unconfirmed is not None and self.store.get(f"{ROOT}confirmations/{head.key}") is None

    def drop(self, head: Head) -> None:
        """Forget a network and all of its revisions and snapshots."""
        self._commit(head, head, [Delete(f"{ROOT}heads/{head.key}"), Delete(f"{ROOT}confirmations/{head.key}"),
                                  Delete(f"{ROOT}revisions/{head.key}/", prefix=True),
                                  Delete(f"{ROOT}snapshots/{head.key}/", prefix=True)])

    def _commit(self, head: Head, after: Head, operations: list[Put | Delete]) -> Head:
        compare = Compare(f"{ROOT}heads/{head.key}", "modified", head.modified)
        done = self.store.transact([compare], operations)
        if not done.succeeded:
            raise Conflict(f"{head.key} was changed by somebody else meanwhile: look at it, and try again")
        return replace(after, modified=done.revision)

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def snapshots(self, tenant: str, network: str) -> list[Snapshot]:
        return [Snapshot(**json.loads(entry.value)) for entry in self._all(f"snapshots/{tenant}/{network}/")]

    def put_snapshot(self, tenant: str, network: str, snapshot: Snapshot) -> bool:
        """Keep it; False if there is one of its name."""
        key = f"{ROOT}snapshots/{tenant}/{network}/{snapshot.name}"
        return self.store.transact([Compare.absent(key)], [Put(key, _bytes(asdict(snapshot)))]).succeeded

    def drop_snapshot(self, tenant: str, network: str, name: str) -> None:
        self.store.transact([], [Delete(f"{ROOT}snapshots/{tenant}/{network}/{name}")])

    # -- tokens ------------------------------------------------------------------------------------------------------

    def tokens(self) -> list[Token]:
        return [token for _, token in self._tokens()]

    def token(self, digest: str) -> Token | None:
        found = self._get(f"tokens/{digest}")
        return None if found is None else Token(**found)

    def put_token(self, digest: str, token: Token) -> None:
        self.store.transact([], [Put(f"{ROOT}tokens/{digest}", _bytes(asdict(token)))])

    def drop_token(self, id: str) -> None:
        gone = [digest for digest, token in self._tokens() if token.id == id]
        self.store.transact([], [Delete(f"{ROOT}tokens/{digest}") for digest in gone])

    def _tokens(self) -> Iterator[tuple[str, Token]]:
        for entry in self._all("tokens/"):
            yield _last(entry), Token(**json.loads(entry.value))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _get(self, key: str) -> Any:
        entry = self.store.get(ROOT + key)
        return None if entry is None else json.loads(entry.value)

    def _all(self, prefix: str) -> tuple[Entry, ...]:
        return self.store.range(ROOT + prefix).entries


def _plain(head: Head) -> dict[str, Any]:
    found = asdict(head)
    del found["modified"]
    return found


def _head(entry: Entry) -> Head:
    return replace(Head(**json.loads(entry.value)), modified=entry.modified)


def _last(entry: Entry) -> str:
    return entry.key.rpartition("/")[2]


def _bytes(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()


__all__ = ["Conflict", "Head", "Records", "Revision", "Snapshot", "Token"]
