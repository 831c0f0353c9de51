"""Who asks, and what they may do.

    admin     everything
    owner     everything within one tenant
    viewer    looks at one tenant

Over the unix socket the kernel says who is at the other end: root, and whoever the daemon runs as, are admin; others
need a token as they do over TCP.  A token is 256 random bits and is shown once; the store has its SHA-256, which is
enough for a secret nobody can guess.

What is another tenant's does not exist: the answer is the same, to the byte, as for what was never there, and it is
given before anything is looked up.
"""
from __future__ import annotations

import hashlib
import os
import secrets
import time
from dataclasses import dataclass

from .problems import Forbidden, Missing, Unknown
from .records import Records, Token

ROLES = ("admin", "owner", "viewer")
PREFIX = "iov_"


@dataclass(frozen=True)
class Principal:
    """Who asks."""

    name: str
    role: str
    tenant: str = ""

    def sees(self, tenant: str) -> bool:
        """Whether a tenant exists, as far as they are concerned."""
        return self.role == "admin" or self.tenant == tenant

    @property
    def writes(self) -> bool:
        return self.role in ("admin", "owner")

    def demand(self, tenant: str, write: bool = False) -> None:
        """Missing if it is not theirs to know, Forbidden if it is and they may only look."""
        if not self.sees(tenant):
            raise Missing(f"there is no tenant {tenant}")
        if write and not self.writes:
            raise Forbidden(f"a {self.role} of {tenant} looks, and changes nothing")

    def demand_admin(self) -> None:
        if self.role != "admin":
            raise Forbidden("this takes an administrator")


def principal(records: Records, peer: tuple[int, int, int] | None, authorization: str) -> Principal:
    """Who asks: by a token if there is one, else by who is at the other end of a unix socket (pid, uid, gid)."""
    scheme, _, secret = authorization.partition(" ")
    if authorization:
        token = records.token(digest(secret.strip())) if scheme.lower() == "bearer" else None
        if token is None:
            raise Unknown("this token is not known: it was mistyped, or withdrawn")
        return Principal(token.name, token.role, token.tenant)
    if peer is not None and peer[1] in (0, os.geteuid()):
        return Principal("root" if peer[1] == 0 else f"uid {peer[1]}", "admin")
    raise Unknown("say who you are: `Authorization: Bearer iov_...`, or ask as root over the unix socket")


def issue(records: Records, name: str, role: str, tenant: str) -> tuple[str, Token]:
    """A new token, in clear for this one time."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token = Token(digest(secret)[:12], name, role, tenant, time.time())
    records.put_token(digest(secret), token)
    return secret, token


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


__all__ = ["ROLES", "Principal", "digest", "issue", "principal"]
