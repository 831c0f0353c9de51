"""Documents: text, or data, to what stands in it; and back.

    text ──read──► nodes ──unfold──► long form ──schema──► Network, Tenant ──check──► normal form
                   reading.py        shorthand.py          schema.py        checks.py

Every stage adds to one list of problems, and none gives up while there is something sound to look at: what the schema
refuses is left out, and the rest is checked without it.  Only then is the document refused, as a whole.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from .checks import check
from .errors import Path, Problem, Refused, in_order
from .faults import tell
from .holdings import Holders
from .kinds import Kinds
from .reading import read
from .schema import Network, Tenant
from .shorthand import unfold
from .tree import Node, Problems, planted
from .writing import written

#: Stands in for a field that is broken, while the others are checked.
SOUND: dict[str, Any] = {"version": 1, "tenant": "tenant", "network": "network"}


@dataclass(frozen=True)
class Document:
    """A document without mistakes, in its normal form.  `tree` knows where its long form was written, for problems that
    show later."""

    content: Network | Tenant
    file: str
    tree: Node
    warnings: tuple[Problem, ...] = ()

    def problem(self, path: Path, what: str, fix: str = "") -> Problem:
        """A problem that points into this document."""
        return Problem(self.file, *self.tree.place_of(path), path, what, fix)


def load(source: str | bytes, file: str, kinds: Kinds) -> list[Document]:
    """The documents of a YAML or JSON text; a line of three dashes stands between several.

    `file` is what problems call the text, and where kinds of an author's own are looked for.  Refused has all that is
    wrong with all of them.
    """
    found, problems = [], list[Problem]()
    trees = read(source, file)
    if not trees:
        raise Refused([Problem(file, 1, 1, (), "there is no document in it", "begin with `version: 1`")])
    for tree in trees:
        try:
            found.append(_document(tree, file, kinds))
        except Refused as refused:
            problems += refused.problems
    if problems:
        raise Refused(problems)
    return found


def load_data(data: Any, kinds: Kinds, file: str = "request") -> Document:
    """A document that is data already: a request's body, or what the store has kept."""
    return _document(planted(data), file, kinds)


def normal(content: Network | Tenant) -> dict[str, Any]:
    """The normal form as JSON data: one meaning, one spelling.  What has its default is left out."""
    data: dict[str, Any] = content.model_dump(exclude_defaults=True)
    return {"version": content.version, **{name: data[name] for name in type(content).model_fields if name in data}}


def dump(content: Network | Tenant) -> str:
    """The normal form as YAML: what `load` takes, and gives again unchanged."""
    return written(normal(content))


def together(documents: Sequence[Document], standing: Iterable[Network] = ()) -> list[Problem]:
    """What is wrong with documents only because of each other: names, quotas, devices that two of them hold.

    `standing`: networks that are there already, and stay unless a document of their name takes their place.
    """
    problems: list[Problem] = []
    seen: dict[str, Document] = {}
    for document in documents:
        content = document.content
        key = content.key if isinstance(content, Network) else content.tenant
        if key in seen:
            first = seen[key]
            where = f"{first.file}:{first.tree.place_of(('version',), key=True)[0]}"
            problems.append(document.problem(("network",) if isinstance(content, Network) else ("tenant",),
                                             f"{key} is in {where} already", "give one of them another name"))
        seen.setdefault(key, document)
    networks = [(d, d.content) for d in seen.values() if isinstance(d.content, Network)]
    others = [network for network in standing if network.key not in seen]
    problems += _held_twice(networks, others)
    for document in seen.values():
        if isinstance(document.content, Tenant):
            own = [n for n in [*(network for _, network in networks), *others] if n.tenant == document.content.tenant]
            for name, count, most in over_quota(document.content, own):
                problems.append(document.problem(("quota", name), f"{document.content.tenant} has {count} {name}, and "
                                                 f"may have {most}", "raise the quota, or remove some"))
    return in_order(problems)


def over_quota(tenant: Tenant, networks: Sequence[Network]) -> list[tuple[str, int, int]]:
    """What there is too much of in a tenant's networks: its name in the quota, how many, and how many may be."""
    counts = {"networks": len(networks), **{name: sum(len(getattr(network, name)) for network in networks)
                                            for name in ("functions", "endpoints", "links")}}
    return [(name, count, most) for name, count in counts.items()
            if (most := getattr(tenant.quota, name)) is not None and count > most]


def _held_twice(networks: Sequence[tuple[Document, Network]], others: Sequence[Network]) -> list[Problem]:
    holders, problems = Holders(), []
    for network in others:
        for one in network.endpoints.values():
            holders.take(one, f"{network.key} has it")
    for document, network in networks:
        for name, one in network.endpoints.items():
            path = ("endpoints", name, one.attachment)
            theirs = holders.take(one, f"{network.key} has it, in {document.file}:{document.tree.place_of(path)[0]}")
            if theirs:
                problems.append(document.problem(path, theirs, "give each its own"))
    return problems


def _document(tree: Node, file: str, kinds: Kinds) -> Document:
    if not isinstance(tree.value, dict):
        raise Refused([Problem(file, *tree.place, (), "a document is a mapping of names to values",
                               "begin with `version: 1`, `tenant: ...`, `network: ...`")])
    problems = Problems(file, tree)
    model = Tenant if "network" not in tree.fields and ("quota" in tree.fields or not
                                                        {"functions", "endpoints", "links"} & tree.fields.keys()) \
        else Network
    problems.tree = unfold(problems)
    content, numbers, doubtful = _validated(model, problems)
    if isinstance(content, Network):
        content = check(content, problems, kinds, doubtful, numbers)
    if content is None or problems.fatal:       # what a warning is about may be the fault of a mistake
        raise Refused(problem for problem in problems.found if not problem.warning)
    return Document(content, file, problems.tree, tuple(in_order(problems.found)))


def _validated(model: type[Network] | type[Tenant],
               problems: Problems) -> tuple[Network | Tenant | None, list[int], set[str]]:
    """The document, without the fields that are broken; which links are left; and names that have something broken."""
    tree = problems.tree
    numbers = list(range(len(tree.fields["links"].items))) if "links" in tree.fields else []
    try:
        return model.model_validate(tree.plain()), numbers, set()
    except ValidationError as error:
        broken = tell(error, problems, model)
    doubtful: set[str] = set()
    fields = dict(tree.fields)
    for path in broken:
        whole = fields.get(str(path[0])) if path else None
        if len(path) > 1 and whole is not None and path[0] in ("functions", "endpoints"):
            name = str(path[1])
            doubtful.add(name)
            one = whole.fields.get(name, whole)
            gone = {"vlan", "share"} if path[-1] == "vlan" else set(path[2:3])
            inner = {n: v for n, v in one.fields.items() if n not in gone} if len(path) > 2 else {}
            kept = {name: one.holding(inner)} if inner and path[-1] != "kind" else {}
            fields[str(path[0])] = whole.holding({n: v for n, v in whole.fields.items() if n != name} | kept)
        elif path and path[0] != "links":
            fields.pop(str(path[0]), None)
    bad = {path[1] for path in broken if len(path) > 1 and path[0] == "links"}
    if ("links",) in broken:
        fields.pop("links", None)
        numbers = []
    elif bad:
        numbers = [number for number in numbers if number not in bad]
        fields["links"] = tree.fields["links"].holding([tree.fields["links"].items[number] for number in numbers])
    try:
        rest = {**SOUND, **{name: node.plain() for name, node in fields.items()}}
        return model.model_validate({n: v for n, v in rest.items() if n in model.model_fields}), numbers, doubtful
    except ValidationError:
        return None, numbers, doubtful


__all__ = ["Document", "dump", "load", "load_data", "normal", "over_quota", "together"]
