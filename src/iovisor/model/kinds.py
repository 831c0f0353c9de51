"""What the model must know of function kinds, and asks whoever calls it.

Documents name kinds (`switch`, or an author's own `rtt.py:RttMeter`); which ports they have and what configuration they
take is known to the language and, for a tenant's own code, to nobody but a sandbox.  The model imports neither: it is
given `Kinds`.  Where such a thing comes from is control's business.
"""
from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import ModelError, Path
from .schema import Network


@dataclass(frozen=True)
class Fault:
    """A mistake in a configuration; the path begins at the configuration.  `missing`: what the path names is not there;
    `unknown`: it is not known; `other`: what it contradicts, the name of a function and a path in its configuration."""

    path: Path
    what: str
    fix: str = ""
    missing: bool = False
    unknown: bool = False
    other: Path = ()


class UnknownKind(ModelError, LookupError):
    """There is no such kind, or it cannot be used; `fix` says what to do."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


class Kind(Protocol):
    """A kind of function, as far as a network is concerned."""

    @property
    def named(self) -> Mapping[str, int]:
        """Ports with a name, and their numbers, in the order of their declaration."""

    @property
    def numbered(self) -> Collection[int]:
        """The numbers of ports without a name, ascending: those of families."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the configuration."""

    def configured(self, config: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Fault]]:
        """The configuration in its normal form, and everything that is wrong with it.

        Both are JSON data, with text for keys.  Normal: the fields that are given, in the order of their declaration,
        each value written in one way (`60s` is `1m`, MAC addresses are in lower case).  It is idempotent.
        """

    def early(self, soft: bool) -> str:
        """Why it cannot meet packets at XDP, of a cable or TAP if that is `soft`; empty if it can."""


class Kinds(Protocol):
    """All kinds that documents may name."""

    def names(self) -> Sequence[str]:
        """The catalogue's; not those that authors have in files of their own."""

    def find(self, kind: str, document: str) -> Kind:
        """The kind of a name.  `file.py:Class` is looked for beside the document, a file's name.  UnknownKind if it
        is not there or cannot be used."""

    def faults(self, network: Network) -> Iterable[tuple[str, Fault]]:
        """What is wrong with configurations, each right by itself, because of what else is in their document; by the
        functions' names.  The document is in its normal form."""


def is_own(kind: str) -> bool:
    """Whether a kind is an author's own, `file.py:Class`."""
    file, colon, name = kind.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


__all__ = ["Fault", "Kind", "Kinds", "UnknownKind", "is_own"]
