"""Tenants and networks as documents: read, checked, written in one normal form, compared.

    from iovisor.model import load, normal

    document, = load(text, "shop.yaml", kinds)      # Refused: every mistake, with file:line:column and what to do
    document.content                                # a Network (or a Tenant), in long form, frozen
    normal(document.content)                        # JSON data: what the store keeps; load_data() takes it again

Pure: no files, no kernel, nothing else of ours.  What kinds of functions there are is told by whoever calls (kinds.py).

    reading.py      text to nodes: YAML 1.2 and JSON, every value with its place
    shorthand.py    short forms to the long form
    schema.py       the long form, field by field (pydantic)
    checks.py       what it takes two fields to see; paths.py the links, holdings.py devices
    document.py     all of these in order, and the normal form
    difference.py   what changes from one to the other; listing.py as lines for people
"""
from __future__ import annotations

from .difference import Change, Edit, Item, applied, difference
from .document import Document, dump, load, load_data, normal, over_quota, together
from .errors import ModelError, Path, Problem, Refused, spelled
from .holdings import held
from .kinds import Fault, Kind, Kinds, UnknownKind, is_own
from .references import Hop, hops
from .schema import INSIDE, Endpoint, Function, Network, Quota, Tenant, size

__all__ = [
    "INSIDE", "Change", "Document", "Edit", "Endpoint", "Fault", "Function", "Hop", "Item", "Kind", "Kinds",
    "ModelError", "Network", "Path", "Problem", "Quota", "Refused", "Tenant", "UnknownKind", "applied", "difference",
    "dump", "held", "hops", "is_own", "load", "load_data", "normal", "over_quota", "size", "spelled", "together",
]
