"""The language of network functions: everything an author imports.

Plain Python, on any system, without LLVM and without root.  Run a function here, debug it, test it; the compiler
makes the same source fast.  The modules, in the order they build on each other: `integers`, `layout` (headers and
records), `packet`, `verdicts`, `tables`, `ports`, `queues`, `streams`, `surroundings`, `configuration`,
`component`, `migration`, `function`; `machine` is time, hash and chance.
"""
from __future__ import annotations

from enum import auto

from .addresses import (
    Prefix,
    data_rate,
    data_rate_text,
    duration,
    duration_text,
    ipv4_address,
    ipv4_text,
    ipv6_address,
    ipv6_text,
    mac_address,
    mac_text,
    prefix,
)
from .component import Component
from .configuration import Config
from .errors import ConfigError, Contradiction, DeclarationError, GuardedField, LanguageError, Reject, StaleView
from .function import Function, FunctionSpec, action, every, handles, inline, walked_once
from .integers import (
    MICROSECOND,
    MILLISECOND,
    SECOND,
    UInt,
    bitrate,
    ipv4,
    ipv6,
    mac,
    period,
    time,
    u1,
    u2,
    u3,
    u4,
    u5,
    u6,
    u7,
    u8,
    u9,
    u10,
    u11,
    u12,
    u13,
    u14,
    u15,
    u16,
    u20,
    u24,
    u28,
    u32,
    u40,
    u48,
    u56,
    u64,
    u96,
    u128,
)
from .layout import Checksum, Header, Layout, Metadata, Record
from .machine import Clock, hash, instant, now, random
from .migration import migrates, reverts
from .packet import Packet
from .ports import Port, Ports, PortSet, ports
from .queues import Queue, Queues
from .streams import Segment, Stack, serves
from .surroundings import Endpoint, Surroundings
from .tables import Array, Count, Counter, Hash, Lpm, Lru, Table, table
from .verdicts import FLOOD, HOST, Dropped, Reasons, Verdict, drop, flood, forward, punt, require

__all__ = [
    "FLOOD", "HOST", "MICROSECOND", "MILLISECOND", "SECOND", "Array", "Checksum", "Clock", "Component", "Config",
    "ConfigError", "Contradiction", "Count", "Counter", "DeclarationError", "Dropped", "Endpoint", "Function",
    "FunctionSpec", "GuardedField", "Hash", "Header", "LanguageError", "Layout", "Lpm", "Lru", "Metadata", "Packet",
    "Port", "PortSet", "Ports", "Prefix", "Queue", "Queues", "Reasons", "Record", "Reject", "Segment", "Stack",
    "StaleView", "Surroundings", "Table", "UInt", "Verdict", "action", "auto", "bitrate", "data_rate", "data_rate_text",
    "drop", "duration", "duration_text", "every", "flood", "forward", "handles", "hash", "inline", "instant",
    "ipv4", "ipv4_address", "ipv4_text", "ipv6", "ipv6_address", "ipv6_text", "mac", "mac_address", "mac_text",
    "migrates", "now", "period", "ports", "prefix", "punt", "random", "require", "reverts", "serves", "table", "time",
    "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9", "u10", "u11", "u12", "u13", "u14", "u15", "u16", "u20",
    "u24", "u28", "u32", "u40", "u48", "u56", "u64", "u96", "u128", "walked_once",
]
