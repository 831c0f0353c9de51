"""The platform of one host: what is wanted, made so.

    read      a text, and the files it names, to documents without mistakes
    plan      what would change
    apply     change it: in the kernel, then in the store, or not at all
    confirm, rollback, restore, clone, destroy          each of them is an apply of another document
    mend      what stands is compared with what is wanted, at start and ever after

Crash-only: `start` is what happens after a crash.  Every network the store knows is adopted and turned to its current
revision; a folder of a network that the store does not know is cleared away.  So it is the transaction in the store
that decides which revision an interrupted apply leaves: before it the old one, after it the new.

One change at a time on a host: the machine is the limit, not the lock, and what two networks must not share (a device,
a tenant's quota) can be looked at before a change and is still so during it.
"""
from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from .. import model
from ..compiler.cache import Cache
from ..fabric import Network as Fabric
from ..kernel import KernelError, NetworkNamespace
from ..model import Document, Network, Tenant
from ..store import Sqlite
from . import commit, completion, memory
from .access import Principal
from .attachments import attachment
from .events import Events
from .hosted import Hosted, clear
from .kinds import Kinds, Sources, explained
from .lowering import Lowered, lower
from .mender import Mender
from .peers import Peers
from .problems import Conflicting, Forbidden, Missing, Refused
from .quotas import Quotas
from .records import Conflict, Head, Records, Revision, Snapshot
from .shape import Shape, Step
from .troubles import Troubles

T = TypeVar("T")
KEEP = 1000                     # revisions of the store that are kept when it is compacted
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """What an apply does, or would do."""

    tenant: str
    network: str
    before: int
    after: int
    steps: tuple[Step, ...]
    edits: tuple[model.Change, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class Intent:
    """A network's document, and what belongs to it."""

    content: Network
    own: Mapping[str, str]
    ports: Mapping[str, int]
    seed: str
    warnings: tuple[str, ...] = ()


@dataclass
class Standing:
    """What a head says, read once for each time it is written: every apply and every look for drift asks all of them.
    """

    modified: int
    intent: Intent
    lowered: Lowered | None = None


class Platform:
    """Made once a host; `state` is its directory.  May be used by any number of threads."""

    def __init__(self, state: Path, namespace: NetworkNamespace | None = None, cache: Cache | None = None) -> None:
        self.state, self.namespace = state, namespace
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.cache = cache or Cache(state / "images")
        self.store = Sqlite(state / "iovisor.db")
        self.records, self.events = Records(self.store), Events()
        self.sources = Sources(state / "functions")
        self.quotas, self.peers = Quotas(self), Peers(namespace, self._content)
        self.hosted: dict[str, Hosted] = {}
        self._standing: dict[str, Standing] = {}                # by key, of networks that were asked for
        self.troubles, self._mender = Troubles(self.events), Mender(self)
        self.changing = threading.RLock()

    # -- beginning and ending ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make everything what the store says, and keep it so."""
        with self.changing:
            heads = {head.key: head for head in self.records.heads()}
            for folder in sorted((self.state / "networks").glob("*/*")):
                key = "/".join(unquote(part) for part in folder.parts[-2:])
                if key not in heads:
                    log.warning("%s is not known: cleared away", key)
                    clear(folder, self.namespace)
            for folder in (self.state / "durable").glob("*/*"):
                if "/".join(unquote(part) for part in folder.parts[-2:]) not in heads:
                    shutil.rmtree(folder)
            for head in heads.values():
                self._mender.attempt(head)
            self.sources.prune(self._used())
            if self.store.revision > KEEP:
                self.store.compact(self.store.revision - KEEP)
        self._mender.start()

    def stop(self) -> None:
        """Let go of everything; the kernel goes on with all networks."""
        self._mender.stop()
        with self.changing:
            while self.hosted:
                self.hosted.popitem()[1].leave()
            self.store.close()

    def turns(self, seconds: float) -> bool:
        """Whether changes can be made: not for as long as one hangs.  One that takes its time is waited for."""
        if not self.changing.acquire(timeout=seconds):
            return False
        self.changing.release()
        return True

    # -- documents ---------------------------------------------------------------------------------------------------

    def read(self, who: Principal, text: str, file: str, sources: Mapping[str, str]) -> list[tuple[Document, Kinds]]:
        """The documents of a text, with the kinds they may name; all mistakes at once."""
        kinds = self._kinds(who, sources)
        with explained(kinds):
            documents = model.load(text, file, kinds)
        for document in documents:
            self._permitted(who, document.content)
        with explained(kinds):
            standing = [self.document(head) for head in self.records.heads() if who.sees(head.tenant)]
            problems = [p for p in model.together(documents, standing) if not p.warning]
            if problems:
                raise model.Refused(problems)
        return [(document, kinds) for document in documents]

    def _kinds(self, who: Principal, sources: Mapping[str, str]) -> Kinds:
        if sources and who.role == "viewer":
            raise Forbidden("a viewer brings no functions: who may change a network does")
        if sources and self.sources.full:
            with self.changing:
                self.sources.prune(self._used())
        try:
            return Kinds({file: self.sources.keep(text, file) for file, text in sources.items()})
        except model.UnknownKind as error:
            raise Refused.at(error.what, ("sources",), error.fix) from error

    def _used(self) -> set[str]:
        """The modules of authors' files that some revision names, or some snapshot."""
        used: set[str] = set()
        for head in self.records.heads():
            for revision in self.records.revisions(head.tenant, head.network):
                used |= set(revision.own.values())
            for snapshot in self.records.snapshots(head.tenant, head.network):
                used |= set(snapshot.own.values())
        return used

    def read_data(self, who: Principal, data: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[Document, Kinds]:
        """A document that is data already."""
        kinds = self._kinds(who, sources)
        with explained(kinds):
            document = model.load_data(data, kinds)
        self._permitted(who, document.content)
        return document, kinds

    def _permitted(self, who: Principal, content: Network | Tenant) -> None:
        who.demand(content.tenant, write=True)
        if isinstance(content, Tenant):
            who.demand_admin()
        elif who.role != "admin":
            for name, one in content.endpoints.items():
                if one.netns is not None and "/" in one.netns:      # it could be the machine's own
                    raise Refused.at("a namespace by path takes an administrator", ("endpoints", name, "netns"),
                                     "name one that `ip netns` shows")

    def document(self, head: Head) -> Network:
        """What a network shall be.  Read once for each change of its head: whoever applies asks all networks."""
        return self._read(head).intent.content

    # -- planning and applying ---------------------------------------------------------------------------------------

    def intent(self, document: Document, kinds: Kinds) -> Intent:
        """What a document wants, beside what stands."""
        content = document.content
        assert isinstance(content, Network)
        head = self.records.head(content.tenant, content.network)
        current = self._revision(head, head.current) if head is not None else None
        used = {one.kind.rpartition(":")[0] for one in content.functions.values() if model.is_own(one.kind)}
        return Intent(content, {file: module for file, module in kinds.own.items() if file in used},
                      current.ports if current else {}, head.seed if head else content.key,
                      tuple(str(problem) for problem in document.warnings))

    def plan(self, intent: Intent) -> Change:
        """What `apply` would do; nothing changes."""
        return self._planned(intent, self._lowered(intent))

    def _planned(self, intent: Intent, lowered: Lowered) -> Change:
        content = intent.content
        self.quotas.check(content, lowered.shape)
        head = self.records.head(content.tenant, content.network) or Head(content.tenant, content.network)
        hosted = self.hosted.get(content.key)
        steps = hosted.call(lambda network: commit.plan(network, lowered.shape)) if hosted else \
            commit.from_nothing(lowered.shape)
        before = self._revision(head, head.current) if head.current else None
        same = before is not None and before.document == model.normal(content) and before.own == intent.own
        return Change(content.tenant, content.network, head.current, head.current if same else head.numbers + 1,
                      tuple(steps), tuple(self._effects(before, intent)), intent.warnings)

    def apply(self, who: Principal, intent: Intent, message: str = "", confirm: float = 0.0,
              remembered: Mapping[str, Any] | None = None, anyway: bool = False) -> Change:
        """Make it so, all of it or nothing.  `remembered` is put into the tables before a packet comes; `anyway`, also
        if a confirmation is waited for, which then is not any more."""
        content = intent.content
        with self.changing:
            self.quotas.taken(who, content)
            head = self.records.head(content.tenant, content.network) or \
                Head(content.tenant, content.network, seed=intent.seed)
            if head.unconfirmed is not None and not confirm and not anyway:
                raise Conflicting(f"{head.key} waits for a confirmation of revision {head.current}: confirm it, or "
                                  "roll back")
            lowered = self._lowered(intent)
            change = self._planned(intent, lowered)
            if not change.changes and remembered is None:
                if change.steps:
                    self._mender.mend(head)
                return change
            revision = Revision(head.numbers + 1, time.time(), who.name, message, model.normal(content),
                                dict(intent.own), lowered.ports)
            fresh = head.key not in self.hosted
            tenant = None if self.records.tenant(content.tenant) else {"version": 1, "tenant": content.tenant}
            hosted = self.host(head.key)
            try:
                former = hosted.call(commit.Shape.of)
                self.peers.lay(content)

                def turn(network: Fabric) -> tuple[Step, ...]:
                    recall = (lambda: memory.recall(network, dict(remembered))) if remembered else None
                    return tuple(commit.turn(network, lowered.shape, recall))
                hosted.call(turn)
                try:
                    self.records.advance(head, revision, tenant, confirm)
                except BaseException:
                    hosted.call(lambda network: commit.turn(network, former))
                    raise
            except BaseException as error:
                if fresh:
                    self.hosted.pop(head.key).destroy()
                if not head.current:
                    shutil.rmtree(self._shelf(head.key).parent, ignore_errors=True)
                raise self._refusal(error, intent) from error
            hosted.call(lambda network: commit.tidy(network, lowered.shape))
            self._meet(content, self.document(head) if head.current else None)
        self.events.publish("applied", content.tenant, content.network, revision=revision.number, by=who.name,
                            message=message, confirm=confirm)
        return replace(change, after=revision.number)

    def confirm(self, who: Principal, tenant: str, network: str) -> int:
        """What was applied for a time stays."""
        with self.changing:
            head = self.head(tenant, network)
            if head.unconfirmed is None:
                raise Conflicting(f"{head.key} waits for no confirmation")
            if self.records.overdue(head):
                raise Conflicting(f"the time to confirm revision {head.current} of {head.key} is over")
            self.records.confirm(head)
        self.events.publish("confirmed", tenant, network, revision=head.current, by=who.name)
        return head.current

    def rollback(self, who: Principal, tenant: str, network: str, to: int | None = None, message: str = "") -> Change:
        """Apply a former revision again: of a number, or the one before the current; of one unconfirmed, what was
        before it."""
        with self.changing:
            head = self.head(tenant, network)
            if to is None:
                to = head.unconfirmed if head.unconfirmed is not None else self._before(head)
            if to == 0:
                self.destroy(who, tenant, network)
                return Change(tenant, network, head.current, 0, ())
            revision = self._revision(head, to)
            change = self.apply(who, self._again(head, revision), message or f"rollback to revision {to}", anyway=True)
            if head.unconfirmed is not None and not change.changes:
                self.records.confirm(head)
            return change

    def destroy(self, who: Principal, tenant: str, network: str) -> None:
        """The network is no more, nor are its revisions and snapshots."""
        with self.changing:
            head = self.head(tenant, network)
            content = self.document(head)
            self.records.drop(head)
            self._standing.pop(head.key, None)
            hosted = self.hosted.pop(head.key, None)
            if hosted is not None:
                hosted.destroy()
            shutil.rmtree(self._shelf(head.key).parent, ignore_errors=True)
            shutil.rmtree(self.state / "snapshots" / _folder(head.key), ignore_errors=True)
            self._meet(None, content)
        self.troubles.forget(head.key)
        self.events.publish("destroyed", tenant, network, by=who.name)

    def revoke(self, who: Principal, tenant: str, network: str, endpoint: str) -> Change:
        """Close a gateway to another network, which the other side may keep open: nobody answers it."""
        with self.changing:
            head = self.head(tenant, network)
            revision = self._revision(head, head.current)
            endpoints = revision.document.get("endpoints", {})
            if "peer" not in endpoints.get(endpoint, {}):
                raise Missing(f"{head.key} has no gateway {endpoint}")
            document = {**revision.document, "endpoints": {**endpoints, endpoint: _opened(endpoints[endpoint])}}
            return self.apply(who, self._stored(document, revision.own, revision.ports, head.seed),
                              f"gateway {endpoint} is revoked", anyway=True)

    # -- copies ------------------------------------------------------------------------------------------------------

    def clone(self, who: Principal, tenant: str, network: str, to: tuple[str, str],
              rebind: Mapping[str, Mapping[str, Any]], learned: bool) -> Change:
        """The same network under another name.  Its endpoints are attached as `rebind` says, and open otherwise."""
        with self.changing:
            head = self.head(tenant, network)
            if self.records.head(*to) is not None:
                raise Conflicting(f"there is a network {to[0]}/{to[1]} already: destroy it, or choose another name")
            revision = self._revision(head, head.current)
            document = {**revision.document, "tenant": to[0], "network": to[1]}
            endpoints = document.get("endpoints", {})
            for name in rebind.keys() - endpoints.keys():
                raise Refused.at(f"{head.key} has no endpoint {name}", ("rebind", name),
                                 f"it has {', '.join(endpoints)}")
            if endpoints:
                document["endpoints"] = {name: {**_opened(one), **rebind.get(name, {})}
                                         for name, one in endpoints.items()}
            intent = self._stored(document, revision.own, revision.ports, head.seed)
            kept = self.hosted[head.key].call(memory.remembered) if learned else None
            return self.apply(who, intent, f"clone of {head.key} revision {head.current}", remembered=kept)

    def export(self, tenant: str, network: str, tables: bool) -> dict[str, Any]:
        """Everything of a network in one piece."""
        head = self.head(tenant, network)
        revision = self._revision(head, head.current)
        found: dict[str, Any] = {
            "iovisor": "network", "format": 1, "document": revision.document, "ports": revision.ports,
            "seed": head.seed, "own": {file: self.sources.text(module) for file, module in revision.own.items()}}
        if tables:
            found["memory"] = self.hosted[head.key].call(memory.remembered)
        return found

    def import_(self, who: Principal, found: Mapping[str, Any], to: tuple[str, str] | None = None) -> Change:
        """The opposite of `export`; under another name if one likes."""
        if found.get("iovisor") != "network" or found.get("format") != 1 or not isinstance(found.get("document"), dict):
            raise Refused.at("this is no exported network", (), "`iovisor export` writes one")
        document = dict(found["document"])
        if to is not None:
            document |= {"tenant": to[0], "network": to[1]}
        read, kinds = self.read_data(who, document, found.get("own", {}))
        intent = replace(self.intent(read, kinds), ports=found.get("ports", {}), seed=found.get("seed", ""))
        return self.apply(who, intent, "import", remembered=found.get("memory"))

    def snapshot(self, who: Principal, tenant: str, network: str, name: str, tables: bool) -> Snapshot:
        """Keep what stands, with what its functions have learned if `tables`."""
        with self.changing:
            head = self.head(tenant, network)
            revision = self._revision(head, head.current)
            snapshot = Snapshot(name, time.time(), who.name, revision.number, revision.document, dict(revision.own),
                                dict(revision.ports), head.seed, tables)
            if any(one.name == name for one in self.records.snapshots(tenant, network)):
                raise Conflicting(f"{head.key} has a snapshot {name} already")
            if tables:
                path = self._memory_of(head, name)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.write_text(json.dumps(self.hosted[head.key].call(memory.remembered)))
            self.records.put_snapshot(tenant, network, snapshot)
        self.events.publish("snapshot", tenant, network, name=name, by=who.name, tables=tables)
        return snapshot

    def restore(self, who: Principal, tenant: str, network: str, name: str) -> Change:
        """Apply what a snapshot keeps, and give back what the functions had learned."""
        with self.changing:
            head = self.head(tenant, network)
            snapshot = self._snapshot(head, name)
            kept = json.loads(self._memory_of(head, name).read_text()) if snapshot.memory else None
            intent = self._stored(snapshot.document, snapshot.own, snapshot.ports, snapshot.seed)
            return self.apply(who, intent, f"restore of snapshot {name}", remembered=kept)

    def forget(self, who: Principal, tenant: str, network: str, name: str) -> None:
        """Remove a snapshot."""
        with self.changing:
            head = self.head(tenant, network)
            self._snapshot(head, name)
            self.records.drop_snapshot(tenant, network, name)
            self._memory_of(head, name).unlink(missing_ok=True)

    # -- tenants -----------------------------------------------------------------------------------------------------

    def put_tenant(self, who: Principal, content: Tenant) -> None:
        """Make a tenant, or change its quota; what it has may not be more."""
        with self.changing:
            self.quotas.set(content)
            self.records.put_tenant(content.tenant, model.normal(content))
        self.events.publish("tenant", content.tenant, by=who.name)

    def drop_tenant(self, who: Principal, tenant: str) -> None:
        """Forget a tenant that has no networks."""
        with self.changing:
            self.tenant(tenant)
            networks = [head.network for head in self.records.heads(tenant)]
            if networks:
                raise Conflicting(f"{tenant} has networks: destroy {', '.join(networks)} first")
            self.records.drop_tenant(tenant)
        self.events.publish("tenant gone", tenant, by=who.name)

    # -- looking -----------------------------------------------------------------------------------------------------

    def tenant(self, name: str) -> dict[str, Any]:
        """Its document; Missing if there is no such tenant."""
        found = self.records.tenant(name)
        if found is None:
            raise Missing(f"there is no tenant {name}")
        return found

    def head(self, tenant: str, network: str) -> Head:
        """Missing if there is no such network."""
        found = self.records.head(tenant, network)
        if found is None:
            self.tenant(tenant)
            raise Missing(f"there is no network {network} of {tenant}")
        return found

    def call(self, tenant: str, network: str, do: Callable[[Fabric], T]) -> T:
        """Ask a running network."""
        head = self.head(tenant, network)
        hosted = self.hosted.get(head.key)
        if hosted is None:
            raise Conflicting(f"{head.key} does not run: the daemon's log says why, and it is tried again")
        return hosted.call(do)

    def lowered(self, head: Head) -> Lowered:
        """What a network shall be on this host.  With gateways, that depends on other networks, too."""
        standing = self._read(head)
        if standing.lowered is None or any(one.peer is not None for one in standing.intent.content.endpoints.values()):
            standing.lowered = self._lowered(standing.intent)
        return standing.lowered

    def shape(self, head: Head) -> Shape:
        return self.lowered(head).shape

    def revision(self, tenant: str, network: str, number: int) -> Revision:
        """One of its history."""
        return self._revision(self.head(tenant, network), number)

    def host(self, key: str) -> Hosted:
        """A running network, begun if it does not run."""
        if key not in self.hosted:
            self.hosted[key] = Hosted(key, self.state / "networks" / _folder(key), self._shelf(key), self.namespace,
                                      self.cache, self.troubles)
            self.hosted[key].call(lambda network: network.allow(self.quotas.allowance(key.partition("/")[0])))
        return self.hosted[key]

    @staticmethod
    def edits(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[model.Change]:
        """What differs between two documents."""
        return model.difference(Network.model_validate(before) if before else None, Network.model_validate(after))

    @staticmethod
    def _effects(before: Revision | None, intent: Intent) -> list[model.Change]:
        """What differs between two documents, with what follows from each."""
        was = completion.document(Network.model_validate(before.document), Kinds(before.own)) if before else None
        return model.difference(was, completion.document(intent.content, Kinds(intent.own)))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _meet(self, content: Network | None, before: Network | None) -> None:
        """What another network shall be follows from what this one is now: its gateways."""
        named = list(self.peers.named(content, before))
        for tenant, network in named:
            head = self.records.head(tenant, network)
            if head is not None:
                self._mender.attempt(head)
        if content is not None:
            self.peers.open(content)
        if named:
            self.peers.sweep(self.document(head) for head in self.records.heads())

    def _read(self, head: Head) -> Standing:
        found = self._standing.get(head.key)
        if found is None or found.modified != head.modified:
            found = Standing(head.modified, self._again(head, self._revision(head, head.current)))
            self._standing[head.key] = found
        return found

    def _lowered(self, intent: Intent) -> Lowered:
        kinds = Kinds(intent.own)
        return lower(intent.content, kinds, intent.ports, lambda name, one: self.peers.attached(
            intent.content, name) if one.peer is not None else attachment(intent.content, name, one, intent.seed))

    def _content(self, tenant: str, network: str) -> Network | None:
        head = self.records.head(tenant, network)
        return self.document(head) if head is not None else None

    def _again(self, head: Head, revision: Revision) -> Intent:
        return self._stored(revision.document, revision.own, revision.ports, head.seed)

    @staticmethod
    def _stored(document: Mapping[str, Any], own: Mapping[str, str], ports: Mapping[str, int], seed: str) -> Intent:
        return Intent(Network.model_validate(document), own, ports, seed)

    def _revision(self, head: Head, number: int) -> Revision:
        found = self.records.revision(head.tenant, head.network, number)
        if found is None:
            raise Missing(f"{head.key} has no revision {number}; it has 1 to {head.numbers}")
        return found

    def _before(self, head: Head) -> int:
        earlier = [one.number for one in self.records.revisions(head.tenant, head.network) if one.number < head.current]
        if not earlier:
            raise Conflicting(f"{head.key} has one revision only: there is nothing to go back to")
        return earlier[-1]

    def _snapshot(self, head: Head, name: str) -> Snapshot:
        for one in self.records.snapshots(head.tenant, head.network):
            if one.name == name:
                return one
        raise Missing(f"{head.key} has no snapshot {name}")

    def _shelf(self, key: str) -> Path:
        """Where the durable tables of a network are kept."""
        return self.state / "durable" / _folder(key) / "entries.db"

    def _memory_of(self, head: Head, name: str) -> Path:
        return self.state / "snapshots" / _folder(head.key) / f"{quote(name, safe='')}.json"

    def _refusal(self, error: BaseException, intent: Intent) -> BaseException:
        """What the compiler, the kernel or the fabric said, as whoever applied shall read it."""
        if isinstance(error, Conflict):
            return Conflicting(str(error))
        if isinstance(error, SyntaxError):                      # the compiler's, with a line and a caret
            text = "".join(traceback.format_exception_only(error)).strip()
            for file, module in intent.own.items():
                text = text.replace(str(self.sources.folder / f"{module}.py"), file)
            return Refused.at(f"{intent.content.key} does not compile:\n{text}")
        if isinstance(error, (ValueError, KernelError)):
            return Refused.at(f"{intent.content.key} cannot be made so here: {error}")
        return error


def _folder(key: str) -> Path:
    return Path(*(quote(part, safe="") for part in key.split("/")))


def _opened(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """An endpoint that is attached to nothing."""
    attached = ("netns", "interface", "tap", "device", "share", "vlan", "peer")
    return {name: value for name, value in endpoint.items() if name not in attached}


__all__ = ["Change", "Intent", "Platform"]
