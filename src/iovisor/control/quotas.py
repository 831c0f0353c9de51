"""What tenants may have, and what no two networks may hold at once: asked before anything changes.

    networks, functions, endpoints, links       counted in the documents
    tables                                      kernel memory of all tables when they are full (footprint.py)
    punts                                       packets a second to Python, in all networks of the tenant together

The first five are asked by `plan` and `apply`; the last holds while networks run: what comes beyond it stays in the
kernel's rings, which drop and count what they have no room for (`PUNT_LOST`).
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .. import model
from ..fabric import Allowance
from ..model import Network, Tenant
from .access import Principal
from .footprint import footprint
from .problems import Refused
from .records import Head, Records
from .shape import Shape


class Standing(Protocol):
    """What of a platform is asked."""

    records: Records

    def document(self, head: Head) -> Network: ...
    def shape(self, head: Head) -> Shape: ...


class Quotas:
    """Those of all tenants of a host."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._allowances: dict[str, Allowance] = {}

    def check(self, content: Network, shape: Shape) -> None:
        """Refused: with this network its tenant would have more than it may."""
        found = self._standing.records.tenant(content.tenant)
        if found is None:
            return
        heads = [head for head in self._standing.records.heads(content.tenant) if head.network != content.network]
        over = self._over(Tenant.model_validate(found), heads, {content.key: (content, shape)})
        if over:
            raise Refused.at("; ".join(f"{content.tenant} would have {count} {name}, and may have {most}"
                                       for name, count, most in over), (), "remove some, or ask for more")

    def set(self, content: Tenant) -> None:
        """What a tenant may have from here on.  Refused: it has more."""
        over = self._over(content, self._standing.records.heads(content.tenant), {})
        if over:
            raise Refused.at("; ".join(f"{content.tenant} has {count} {name} already, more than {most}"
                                       for name, count, most in over), ("quota",))
        self.allowance(content.tenant).rate = content.quota.punts

    def allowance(self, tenant: str) -> Allowance:
        """How many packets a second of a tenant's go to Python; its networks share it."""
        if tenant not in self._allowances:
            found = self._standing.records.tenant(tenant)
            self._allowances[tenant] = Allowance(Tenant.model_validate(found).quota.punts if found else None)
        return self._allowances[tenant]

    def taken(self, who: Principal, content: Network) -> None:
        """Refused: what an endpoint takes for itself another network has; whose it is, is told to whom it is visible.
        """
        wanted = {model.held(one): name for name, one in content.endpoints.items()
                  if one.attachment and one.peer is None}
        for head in self._standing.records.heads():
            for other in self._standing.document(head).endpoints.values() if head.key != content.key else ():
                if name := wanted.get(model.held(other)):
                    whose = f"{head.key}'s" if who.sees(head.tenant) else "another network's"
                    raise Refused.at(f"{' '.join(model.held(other))} is {whose}", ("endpoints", name))

    def _over(self, tenant: Tenant, heads: list[Head],
              more: Mapping[str, tuple[Network, Shape]]) -> list[tuple[str, str, str]]:
        """What there is too much of: its name, how much, and how much may be."""
        contents = [*map(self._standing.document, heads), *(content for content, _ in more.values())]
        over = [(name, str(count), str(most)) for name, count, most in model.over_quota(tenant, contents)]
        if tenant.quota.tables is not None:
            shapes = [*map(self._standing.shape, heads), *(shape for _, shape in more.values())]
            takes, most = sum(map(memory, shapes)), model.size(tenant.quota.tables)
            if takes > most:
                over.append(("of tables", _mebi(takes), _mebi(most)))
        return over


def memory(shape: Shape) -> int:
    """Bytes that the tables of a network take when they are full."""
    return sum(footprint(table.resolve(part.config)) for part in shape.parts.values()
               for table in part.kind.spec().tables.values())


def _mebi(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"



__all__ = ["Quotas", "memory"]
