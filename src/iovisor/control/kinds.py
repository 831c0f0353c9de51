"""Which kinds of function there are, and the one place where their code comes into this process.

    switch, acl, ...        the catalogue: modules of iovisor.functions, each with one function
    rtt.py:RttMeter         an author's own, in a file that comes with the document

A file of an author's is kept under a name made of its content.  So a revision keeps the code it was applied with,
whatever becomes of the author's file; two networks may have different files of one name; and whoever adopts a network
finds its kinds by importing them, because the folder is on the path.

Importing a file runs it.  Until functions are imported, compiled and run in a sandboxed worker, only who may do
everything anyway may bring code: `Kinds(own=False)`, which others get, knows the catalogue alone.  A worker will take
the place of `_load`, and nothing else here knows how a class came to be.
"""
from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import functions
from ..language import Function, LanguageError, Ports
from ..model import Fault, UnknownKind, is_own
from . import configured

MOST_BYTES = 1 << 19
_importing = threading.RLock()


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


class Sources:
    """Authors' files, by content, in a folder of the daemon's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))

    def keep(self, text: str) -> str:
        """Keep a file; answers the name of its module."""
        raw = text.encode()
        if len(raw) > MOST_BYTES:
            raise UnknownKind(f"this file has {len(raw)} bytes", f"a function's file has at most {MOST_BYTES}")
        name = f"own_{hashlib.sha256(raw).hexdigest()[:24]}"
        path = self.folder / f"{name}.py"
        if not path.exists():
            draft = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            with draft.open("wb") as file:
                file.write(raw)
                os.fsync(file.fileno())
            draft.replace(path)
            importlib.invalidate_caches()
        return name

    def text(self, module: str) -> str:
        """The opposite of `keep`."""
        return (self.folder / f"{module}.py").read_text()

    def prune(self, used: Collection[str]) -> None:
        """Remove what no revision uses."""
        for path in self.folder.glob("own_*.py"):
            if path.stem not in used:
                path.unlink()


class Kinds:
    """All kinds that a document may name; `own` are the modules of the files it came with, by the file's name."""

    def __init__(self, own: Mapping[str, str] | None = None, permitted: bool = True) -> None:
        self.own, self.permitted = own or {}, permitted
        self.absent: set[str] = set()           # files that documents named and that did not come with them

    def names(self) -> Sequence[str]:
        """The catalogue's."""
        return sorted(module.name for module in pkgutil.iter_modules(functions.__path__)
                      if not module.name.startswith("_") and _catalogued(module.name) is not None)

    def find(self, kind: str, document: str = "") -> Kind:
        """The kind of a name; UnknownKind if it is not there or cannot be used."""
        if is_own(kind):
            file, _, name = kind.rpartition(":")
            if not self.permitted:
                raise UnknownKind("functions of your own run inside the daemon, and only its administrator may "
                                  "bring them", "ask the administrator to apply this network")
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
    found = _declared(_load(qualified), qualified)
    named = [kind for kind in found if kind.__name__.lower() == name.replace("_", "")]
    return next(iter(found if len(found) == 1 else named), None)


def _own(module: str, file: str, name: str) -> Kind:
    try:
        found = _declared(_load(module), module)
        for kind in found:
            if kind.__name__ == name:
                kind.spec()
                return Kind(kind)
    except (LanguageError, SyntaxError) as error:
        raise UnknownKind(f"{file} does not stand: {error}", f"`iovisor check {file}` shows where") from error
    except Exception as error:          # whatever the author's own code raises when it is imported
        raise UnknownKind(f"{file} cannot be imported: {type(error).__name__}: {error}",
                          "a function's file is one file, and imports iovisor and the standard library") from error
    names = ", ".join(kind.__name__ for kind in found) or "none"
    raise UnknownKind(f"{file} has no function {name}", f"its functions are {names}")


def _declared(module: Any, name: str) -> list[type[Function]]:
    return [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Function)
            and (value.__module__ == name or value.__module__.startswith(f"{name}.")) and "ingress" in dir(value)
            and value.ingress is not Function.ingress]


def _load(module: str) -> Any:
    with _importing:
        return importlib.import_module(module)


__all__ = ["Kind", "Kinds", "Sources"]
