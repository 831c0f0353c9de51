"""What is sent and what is answered."""
from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Seconds = Annotated[float, Field(ge=0, le=86400)]


class Body(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Texts(Body):
    """Documents as they were written, and the files of functions that they name."""

    text: str = Field(max_length=4 << 20, description="YAML or JSON; a line of three dashes between documents.")
    file: str = Field("request", max_length=4096, description="What messages call the text.")
    sources: dict[str, Annotated[str, Field(max_length=1 << 19)]] = Field(
        {}, description="Functions of your own: the text of each file, by the name the document uses.")


class Applying(Texts):
    message: str = Field("", max_length=1000, description="Why; kept in the history.")
    confirm: Seconds = Field(0, description="Undo it after so many seconds unless it is confirmed; 0 for never.")


class Document(Body):
    """One network."""

    document: dict[str, Any] = Field(description="The network, in long or short form.")
    sources: dict[str, str] = {}
    message: str = Field("", max_length=1000)
    confirm: Seconds = 0


class Problem(BaseModel):
    """RFC 9457; `problems` says where in a document."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[dict[str, Any]] = []


class Changed(BaseModel):
    """What an apply did, or would do."""

    tenant: str
    network: str
    before: int = Field(description="The revision that was current; 0 if there was no such network.")
    after: int = Field(description="The revision that is current then; the same if nothing changes.")
    changes: bool
    summary: str
    lines: list[str] = Field(description="What changes in the document, for people.")
    edits: list[dict[str, Any]] = Field(description="The same for programs.")
    steps: list[str] = Field(description="What changes in the kernel.")
    warnings: list[str] = []


class Rollback(Body):
    revision: Annotated[int, Field(ge=1)] | None = Field(None, description="The one before the current, if not said.")
    message: str = Field("", max_length=1000)


class Clone(Body):
    tenant: Name = Field(description="Of the new network.")
    network: Name = Field(description="Its name.")
    rebind: dict[str, dict[str, Any]] = Field(
        {}, description="What its endpoints are attached to, as in a document; others are left open.")
    learned: bool = Field(False, description="Also what the functions have learned: stations, sessions.")


class Import(Body):
    exported: dict[str, Any]
    tenant: Name | None = None
    network: Name | None = None


class SnapshotName(Body):
    name: Name
    tables: bool = Field(False, description="Also what the functions have learned.")


class Arguments(Body):
    arguments: dict[str, Any] = {}


class Packet(Body):
    """A packet, and where it comes in."""

    at: str = Field(max_length=200, description="A port, `lan:0`, or an endpoint's name.")
    frame: str = Field("", max_length=1 << 17, description="The frame in hexadecimal, from its destination address on.")
    packet: str = Field("", max_length=500, description="Or the packet in words: "
                        "`tcp 10.1.0.11:40000 > 10.2.0.20:80 syn`, `icmp 10.1.0.11 > 10.2.0.20`.")


class TenantBody(Body):
    description: str = ""
    labels: dict[str, str] = {}
    quota: dict[str, Any] = Field({}, description="networks, functions, endpoints, links, tables, punts.")


class TokenBody(Body):
    name: Name
    role: Literal["admin", "owner", "viewer"]
    tenant: str = Field("", max_length=63, description="Whose; empty for an admin.")
