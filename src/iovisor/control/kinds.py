"""Functions of authors, `rtt.py:RttMeter`, in files that come with documents, beside those of the catalogue.

A file of an author's is kept under a name made of its content.  So a revision keeps the code it was applied with,
whatever becomes of the author's file, and two networks may have different files of one name.

Importing a file runs it, so that is never done here.  Under the name of its module stands a module of stand-ins: what a
sandboxed worker says of the author's classes, checked (`sandbox`).  Whoever adopts a network finds its kinds by
importing them, as those of the catalogue, and gets these.
"""
from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..language import Config
from ..language.errors import ConfigError
from ..model import Fault, UnknownKind, is_own
from ..model import Refused as ModelRefused
from .catalogue import Catalogue, Kind
from .problems import Refused, SourcesMissing
from .sandbox.confinement import Unconfined
from .sandbox.standin import Resolved, Standing
from .sandbox.workshop import Bench, Failed, Workshop

MOST_BYTES = 1 << 19
MOST_FILES = 500                # kept, before those that no revision uses are looked for
_standing = threading.Lock()


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

    def early(self, soft: bool) -> str:
        return "a function of your own meets them at tc"

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


class Kinds(Catalogue):
    """All kinds that a document may name; `own` are the modules of the files it came with, by the file's name."""

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self.own = own or {}
        self.absent: set[str] = set()           # files that documents named and that did not come with them

    def find(self, kind: str, document: str = "") -> Kind:
        """The kind of a name; UnknownKind if it is not there or cannot be used."""
        if is_own(kind):
            file, _, name = kind.rpartition(":")
            if file not in self.own:
                self.absent.add(file)
                raise UnknownKind(f"the file {file} did not come with the document", "put it beside the document")
            return _own(self.own[file], file, name)
        return super().find(kind, document)


@contextmanager
def explained(kinds: Kinds) -> Iterator[None]:
    """Inside, what the model refuses is said in our words; files that did not come along first."""
    try:
        yield
    except ModelRefused as error:
        if kinds.absent:
            raise SourcesMissing(kinds.absent) from error
        raise Refused(error.problems) from error


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


__all__ = ["Kind", "Kinds", "OwnKind", "Sources", "explained"]
