"""Configurations completed from the rest of their document (`language.surroundings`).

What is kept is the document as it was written; what follows from it follows anew each time it is lowered, so it holds
for every revision, clone and rollback, and when an endpoint goes its name goes.  A plan shows documents completed, so
that nobody is surprised.

Functions of authors are told nothing, and nothing is told of them: their code does not run here, and a worker is not
asked each time somebody looks.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from ..language import Config, ConfigError, Endpoint, Surroundings, mac_address
from ..model import Fault, Network, is_own
from .configured import fault, written_out

if TYPE_CHECKING:
    from .catalogue import Catalogue


def configurations(network: Network, kinds: Catalogue) -> dict[str, Config]:
    """Of every function of a document in its normal form, completed.  ConfigError if one cannot be."""
    found = {name: kinds.find(one.kind).config(one.config) for name, one in network.functions.items()}
    return {name: _completed(network, found, name) if _completes(type(config)) else config
            for name, config in found.items()}


def faults(network: Network, kinds: Catalogue) -> Iterator[tuple[str, Fault]]:
    """What is wrong with a function's configuration, by the function's name, only because of what else there is."""
    found, concerned = _concerned(network, kinds)
    for name in concerned:
        try:
            _completed(network, found, name)
        except ConfigError as error:
            yield name, fault((), error)


def document(network: Network, kinds: Catalogue) -> Network:
    """The document as if all that follows from it had been written."""
    found, concerned = _concerned(network, kinds)
    functions = dict(network.functions)
    for name in concerned:
        before, after, config = found[name], _completed(network, found, name), functions[name].config
        more = {field: written_out(hint, getattr(after, field)) for field, hint in after.types.items()
                if getattr(after, field) != getattr(before, field)}
        functions[name] = functions[name].model_copy(update={"config": {
            field: (config | more)[field] for field in after.types if field in config or field in more}})
    return network.model_copy(update={"functions": functions})


def _completes(config: type[Config]) -> bool:
    return config.completed is not Config.completed


def _concerned(network: Network, kinds: Catalogue) -> tuple[dict[str, Config], list[str]]:
    """The configurations of the catalogue's functions as they are written, if any is completed; and which are."""
    found = {name: kinds.find(one.kind) for name, one in network.functions.items() if not is_own(one.kind)}
    concerned = [name for name, kind in found.items() if _completes(kind.made.spec().config)]
    return ({name: kind.config(network.functions[name].config) for name, kind in found.items()} if concerned else {},
            concerned)


def _completed(network: Network, configs: Mapping[str, Config], name: str) -> Config:
    endpoints = {name: Endpoint(tuple(map(ip_interface, one.addresses)), mac_address(one.mac) if one.mac else 0)
                 for name, one in network.endpoints.items()}
    others = {other: config for other, config in configs.items()
              if other != name and not is_own(network.functions[other].kind)}
    return configs[name].completed(Surroundings(endpoints, others))


__all__ = ["configurations", "document", "faults"]
