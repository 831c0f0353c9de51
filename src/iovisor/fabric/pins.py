"""Pins: a network that outlives the process that made it.

    <directory>/topology.json       the network as a document, replaced by renaming after every change
    <directory>/lock                held by the process that keeps it
    <directory>/bpf/                a bpf file system of its own, with a pin for every map and every link
    <directory>/bpf/<instance>/     those of an instance

The design is *crash-only*: there is no other way to take a network over than that after a crash.  `Pins.map` and
`Pins.link` open what is pinned and make what is not, so making a network and adopting one are the same code, and what a
crash left half done is mended by it.  The document is written when a change is complete.  So a process that dies in the
middle of one leaves the network as it was before: adoption leads every port anew as the document says, hitless as any
change, and forgets what is pinned but not written.

Programs are not pinned: the program arrays keep them running, and adoption loads fresh ones against the same tables.
"""
from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..compiler.cache import Cache
from ..kernel import Direction, Link, Map, MapSpec, NetworkNamespace, Program, filesystem, unpin
from ..language.function import Function
from ..targets.bpf_loaded import BpfLoaded
from ..targets.homes import KernelHome

DOCUMENT, PINS, LOCK = "topology.json", "bpf", "lock"
WIRING = "@wiring"              # among the versions of tables: that of the wiring


class Pins:
    """A folder of pins; that of a network, or, by `within`, of an instance."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, name: str) -> Path:
        return self.folder / quote(name, safe="").replace(".", "%2E")       # bpffs has no dots

    def within(self, name: str, born: int) -> Pins:
        """The folder of an instance, made if necessary; `born` is the revision that brought it, 0 for none."""
        path = self._path(folder_of(name, born))
        path.mkdir(exist_ok=True)
        return Pins(path)

    def forget(self, name: str, born: int) -> None:
        """Remove the folder of an instance."""
        _remove(self._path(folder_of(name, born)))

    def holds(self, name: str) -> bool:
        return self._path(name).exists()

    def map(self, name: str, spec: MapSpec) -> Map:
        """The map pinned under a name, or a new one."""
        path = self._path(name)
        if path.exists():
            return Map.open_pinned(path)
        made = Map.create(spec)
        self.keep(name, made)
        return made

    def keep(self, name: str, made: Map) -> None:
        """Pin a new map; if that fails it is closed."""
        try:
            made.pin(self._path(name))
        except BaseException:
            made.close()
            raise

    def rename(self, former: str, name: str) -> None:
        """Let a pin take the place of another."""
        self._path(former).replace(self._path(name))

    def link(self, name: str, program: Program, index: int, direction: Direction,
             namespace: NetworkNamespace | None, revision: int = 0) -> Link:
        """The link pinned under a name, with this program from now on, or a new one; that only if the chain of programs
        is still at `revision`, if one is given."""
        path = self._path(name)
        if path.exists():
            found = Link.open_pinned(path)
            try:
                if found.info().interface == index:
                    found.update(program)
                    return found
            except BaseException:
                found.close()
                raise
            found.close()
            unpin(path)
        made = Link.tcx(program, index, direction, namespace=namespace, expected_revision=revision)
        self.keep_link(name, made)
        return made

    def keep_link(self, name: str, made: Link) -> None:
        """Pin a new link; if that fails it is closed."""
        try:
            made.pin(self._path(name))
        except BaseException:
            made.close()
            raise

    def found(self, name: str, index: int) -> Link | None:
        """The link pinned under a name, if it is of this device."""
        path = self._path(name)
        if not path.exists():
            return None
        link = Link.open_pinned(path)
        if link.info().interface != index:
            link.close()
            return None
        return link

    def again(self, name: str, link: Link) -> None:
        """Pin a link that is pinned already under another name as well."""
        self.unpin(name)
        link.pin(self._path(name))

    def unpin(self, name: str) -> None:
        unpin(self._path(name))

    def prune_former(self, versions: dict[str, int], tables: Iterable[str], wiring: Iterable[str]) -> None:
        """Forget what of an instance was replaced, or was to be: tables and wirings, of which these maps are kept."""
        kept = {self._path(pin_of(name, versions)) for name in tables}
        kept |= {self._path(wiring_pin(name, versions)) for name in wiring}
        sorts = ("table-*", "next*", "members*", "early*", "context*")
        for path in [path for sort in sorts for path in self.folder.glob(sort)]:
            if path not in kept:
                _remove(path)

    def prune(self, names: set[str]) -> None:
        """Forget every pin and folder but these."""
        kept = {self._path(name) for name in names}
        for path in list(self.folder.iterdir()):
            if path not in kept and "." not in path.name:       # the kernel's own have dots
                _remove(path)


class Unpinned(Pins):
    """What a network uses that ends with its process."""

    def __init__(self) -> None:
        super().__init__(Path())

    def within(self, name: str, born: int) -> Pins:
        return self

    def forget(self, name: str, born: int) -> None:
        pass

    def map(self, name: str, spec: MapSpec) -> Map:
        return Map.create(spec)

    def keep(self, name: str, made: Map) -> None:
        pass

    def rename(self, former: str, name: str) -> None:
        pass

    def prune_former(self, versions: dict[str, int], tables: Iterable[str], wiring: Iterable[str]) -> None:
        pass

    def keep_link(self, name: str, made: Link) -> None:
        pass

    def found(self, name: str, index: int) -> Link | None:
        return None

    def again(self, name: str, link: Link) -> None:
        pass

    def link(self, name: str, program: Program, index: int, direction: Direction,
             namespace: NetworkNamespace | None, revision: int = 0) -> Link:
        return Link.tcx(program, index, direction, namespace=namespace, expected_revision=revision)

    def unpin(self, name: str) -> None:
        pass


class Place(Pins):
    """The directory of a network."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        super().__init__(self.directory / PINS)
        self._lock = -1

    def _hold(self) -> None:
        """Be the only process that keeps this network.  The lock goes with the process, and no child inherits it."""
        # Whoever can write here decides what an adopting process imports.
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ValueError(f"{self.directory}: another process keeps this network") from None
        self._lock = lock

    def release(self) -> None:
        """Let another process keep it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @classmethod
    def make(cls, directory: str | os.PathLike[str]) -> Place:
        """A new place; ValueError if there is a network in the directory."""
        place = cls(directory)
        if (place.directory / DOCUMENT).exists():
            raise ValueError(f"{place.directory} holds a network already: adopt it, or take it down")
        place._hold()
        try:
            filesystem.mount(place.folder)
            place.prune(set())
        except BaseException:
            place.release()
            raise
        return place

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Place:
        """The place of a network whose process is gone; ValueError if there is none, or the process is not gone."""
        place = cls(directory)
        place.read()
        if not filesystem.is_mounted(place.folder):
            raise ValueError(f"{place.directory}: nothing is pinned, so the machine was started anew since, and what "
                             "was made is gone: remove the directory, and make the network again")
        place._hold()
        return place

    def read(self) -> Any:
        """The document; ValueError if there is none."""
        try:
            return json.loads((self.directory / DOCUMENT).read_text())
        except FileNotFoundError:
            raise ValueError(f"{self.directory} holds no network") from None

    def write(self, document: Any) -> None:
        """Replace the document in one step."""
        draft = self.directory / f"{DOCUMENT}.new"
        draft.write_text(json.dumps(document, indent=1))
        os.replace(draft, self.directory / DOCUMENT)

    def remove(self) -> None:
        """The network is no more."""
        (self.directory / DOCUMENT).unlink(missing_ok=True)
        filesystem.unmount(self.folder)
        self.folder.rmdir()
        (self.directory / LOCK).unlink(missing_ok=True)
        self.release()


class PinnedLoaded(BpfLoaded):
    """A function in the kernel whose maps are pinned; if they are there already, the function takes them over."""

    def __init__(self, function: Function, stages: dict[str, str], pins: Pins, cache: Cache | None, ring: int,
                 versions: dict[str, int]) -> None:
        self._pins, self._versions = pins, versions
        super().__init__(function, "tc", stages, cache=cache, bare=False, ring=ring)

    def _map(self, name: str, spec: MapSpec) -> Map:
        return self._pins.map(wiring_pin(name, self._versions) if name == "next" else name, spec)

    def rest(self) -> None:
        super().rest()
        for home in self.homes.values():
            home.map.rest()
        self.slots.rest()

    def _place(self) -> None:
        pins = self._pins
        for name in self.function.tables:
            pin = pin_of(name, self._versions)
            if pins.holds(pin):
                self.function.tables[name].home = self.homes[name] = KernelHome(
                    self.function.tables[name].spec, Map.open_pinned(pins._path(pin)))
        if not self.homes:
            self.function.place(self._home)
            for name, home in self.homes.items():
                home.map.pin(pins._path(pin_of(name, self._versions)))


def folder_of(name: str, born: int) -> str:
    """The folder of an instance: two of one name, one of which takes the other's place, have two.  No name has a colon.
    """
    return f"at-{name}:{born}" if born else f"at-{name}"


def pin_of(table: str, versions: dict[str, int]) -> str:
    """The name of a table's pin: another each time the table is replaced."""
    version = versions.get(table, 0)
    return f"table-{table}-{version}" if version else f"table-{table}"


def wiring_pin(name: str, versions: dict[str, int]) -> str:
    """The name of a pin of which each revision that touches an instance has another."""
    version = versions.get(WIRING, 0)
    return f"{name}-{version}" if version else name


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in list(path.iterdir()):
            inner.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


__all__ = ["WIRING", "PinnedLoaded", "Pins", "Place", "Unpinned", "folder_of", "pin_of", "wiring_pin"]
