"""The catalogue: `switch`, `acl`, ..., modules of iovisor.functions with one function each, as documents name them.

It needs neither compiler nor kernel, so that a document can be checked anywhere.  Functions of authors are in kinds.py.
"""
from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import functions
from ..language import Config, Function, Ports
from ..model import Fault, Network, UnknownKind
from . import completion, configured
from .declared import declared


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

    def early(self, soft: bool) -> str:
        """Why it cannot meet packets at XDP, of a cable or TAP if that is `soft`; empty if it can."""
        from ..fabric.early import why_not  # which brings the compiler, and few documents ask

        return why_not(self.made, soft)

    def config(self, config: Mapping[str, Any]) -> Config:
        """The configuration of a normal form."""
        return configured.made(self.made.spec().config, config)


class Catalogue:
    """The kinds that everybody may name."""

    def names(self) -> Sequence[str]:
        """The catalogue's."""
        return sorted(module.name for module in pkgutil.iter_modules(functions.__path__)
                      if not module.name.startswith("_") and _catalogued(module.name) is not None)

    def find(self, kind: str, document: str = "") -> Kind:
        """The kind of a name; UnknownKind if it is not there or cannot be used."""
        found = _catalogued(kind) if kind.isidentifier() else None
        if found is None:
            raise UnknownKind(f"there is no kind {kind!r}", f"there is {', '.join(self.names())}; a function of your "
                                                            "own is written file.py:Class")
        return Kind(found)

    def faults(self, network: Network) -> Iterable[tuple[str, Fault]]:
        """What is wrong with configurations only because of the document around them, by the functions' names."""
        return completion.faults(network, self)


def _catalogued(name: str) -> type[Function] | None:
    """The function of a module of the catalogue; if it has several, the one of its name."""
    qualified = f"{functions.__name__}.{name}"
    if importlib.util.find_spec(qualified) is None:
        return None
    found = declared(importlib.import_module(qualified), qualified)
    named = [kind for kind in found if kind.__name__.lower() == name.replace("_", "")]
    return next(iter(found if len(found) == 1 else named), None)


__all__ = ["Catalogue", "Kind"]
