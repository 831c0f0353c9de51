"""Which kinds of function there are, and the one place where their code comes into this process.

    switch, acl, ...        the catalogue: modules of iovisor.functions, each with one function
    rtt.py:RttMeter         an author's own, in a file that comes with the document

A file of an author's is kept under a name made of its content.  So a revision keeps the code it was applied with,
whatever becomes of the author's file, and two networks may have different files of one name.

Importing a file runs it, so that is never done here.  Under the name of its module stands a module of stand-ins: what a
sandboxed worker says of the author's classes, checked (`sandbox`).  Whoever adopts a network finds its kinds by
importing them, as those of the catalogue, and gets these.
"""
from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import pkgutil
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import functions
from ..language import Config, Function, Ports
from ..language.errors import ConfigError
from ..model import Fault, UnknownKind, is_own
from . import configured
from .declared import declared
from .sandbox.confinement import Unconfined
from .sandbox.standin import Resolved, Standing
from .sandbox.workshop import Bench, Failed, Workshop

MOST_BYTES = 1 << 19
MOST_FILES = 500                # kept, before those that no revision uses are looked for
_standing = threading.Lock()


@dataclass(frozen=True)
class Kind:
    """A kind as the model wants to know it, and its class."""

    made: type[Function]

    @property
    def named(self) -> Mapping[str, int]:
        """Ports with a name, and their numbers."""
        return {name: port for name, port in self.made.spec().ports.items() if isinstance(port, int)}

    @property
    def numbered(self) -> Collection[int]:
        """The numbers of ports without a name."""
        families = [port for port in self.made.spec().ports.values() if isinstance(port, Ports)]
        return [number for family in families for number in range(family.first, family.first + family.count)]

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of the configuration."""
        return self.made.spec().config.schema()

    def configured(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Fault]]:
        """The configuration in its normal form, and everything that is wrong with it."""
        return configured.normal(self.made.spec().config, config)

    def config(self, config: Mapping[str, Any]) -> Config:
        """The configuration of a normal form."""
        return configured.made(self.made.spec().config, config)


@dataclass(frozen=True)
class OwnKind(Kind):
    """One of an author's: what a configuration means, its worker says."""

    def configured(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Fault]]:
        kind = self.made.spec().config
        assert issubclass(kind, Resolved)
        try:
            found = kind.made.workshop.resolve(kind.made.bench, kind.made.described, config)
            if not found.faults:
                self.config(config)
        except (ConfigError, Failed, Unconfined) as error:
            return dict(config), [Fault((), str(error))]
        return found.normal, [Fault(**fault) for fault in found.faults]

    def config(self, config: Mapping[str, Any]) -> Config:
        return self.made.spec().config(given=json.dumps(config, sort_keys=True))


class Sources:
    """Authors' files, by content, in a folder of the daemon's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workshop = folder, Workshop()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.glob("own_*.py"):
            self._stand(path.stem, path.name, path.read_text())

    def keep(self, text: str, file: str) -> str:
        """Keep a file; answers the name of its module."""
        raw = text.encode()
        if len(raw) > MOST_BYTES:
            raise UnknownKind(f"this file has {len(raw)} bytes", f"a function's file has at most {MOST_BYTES}")
        name = f"own_{hashlib.sha256(raw).hexdigest()[:24]}"
        path = self.folder / f"{name}.py"
        if not path.exists():
            draft = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            with draft.open("wb") as kept:
                kept.write(raw)
                os.fsync(kept.fileno())
            draft.replace(path)
        with _standing:
            standing = sys.modules.get(name)
            if not isinstance(standing, Standing) or standing.workshop is not self.workshop:
                self._stand(name, file, text)
        return name

    def text(self, module: str) -> str:
        """The opposite of `keep`."""
        return (self.folder / f"{module}.py").read_text()

    @property
    def full(self) -> bool:
        """Whether it is time to `prune`."""
        return sum(1 for _ in self.folder.glob("own_*.py")) > MOST_FILES

    def prune(self, used: Collection[str]) -> None:
        """Remove what no revision uses."""
        for path in self.folder.glob("own_*.py"):
            if path.stem not in used:
                path.unlink()
                self.workshop.prune(self.folder / path.stem)
                standing = sys.modules.pop(path.stem, None)
                if isinstance(standing, Standing):
                    standing.forget()

    def _stand(self, module: str, file: str, text: str) -> None:
        sys.modules[module] = Standing(self.workshop, Bench(module, file, text, self.folder / module))


class Kinds:
    """All kinds that a document may name; `own` are the modules of the files it came with, by the file's name."""

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self.own = own or {}
        self.absent: set[str] = set()           # files that documents named and that did not come with them

    def names(self) -> Sequence[str]:
        """The catalogue's."""
        return sorted(module.name for module in pkgutil.iter_modules(functions.__path__)
                      if not module.name.startswith("_") and _catalogued(module.name) is not None)

    def find(self, kind: str, document: str = "") -> Kind:
        """The kind of a name; UnknownKind if it is not there or cannot be used."""
        if is_own(kind):
            file, _, name = kind.rpartition(":")
            if file not in self.own:
                self.absent.add(file)
                raise UnknownKind(f"the file {file} did not come with the document", "put it beside the document")
            return _own(self.own[file], file, name)
        found = _catalogued(kind) if kind.isidentifier() else None
        if found is None:
            raise UnknownKind(f"there is no kind {kind!r}", f"there is {', '.join(self.names())}; a function of your "
                                                            "own is written file.py:Class")
        return Kind(found)


def _catalogued(name: str) -> type[Function] | None:
    """The function of a module of the catalogue; if it has several, the one of its name."""
    qualified = f"{functions.__name__}.{name}"
    if importlib.util.find_spec(qualified) is None:
        return None
    found = declared(importlib.import_module(qualified), qualified)
    named = [kind for kind in found if kind.__name__.lower() == name.replace("_", "")]
    return next(iter(found if len(found) == 1 else named), None)


def _own(module: str, file: str, name: str) -> Kind:
    try:
        return OwnKind(getattr(importlib.import_module(module), name))
    except ModuleNotFoundError as error:
        raise UnknownKind(f"the file {file} is not kept any more", "send it along") from error
    except AttributeError as error:
        raise UnknownKind(f"{file} has no function {name}", f"its functions are {error}") from error
    except Failed as error:
        raise UnknownKind(str(error), f"`iovisor check {file}` shows where; a function's file is one file, and imports "
                                      "iovisor and the standard library") from error
    except Unconfined as error:
        raise UnknownKind(str(error), "ask the administrator of this host") from error


__all__ = ["Kind", "Kinds", "OwnKind", "Sources"]
