"""The REST API: what the platform can do, over HTTP.

    application     the whole; errors, limits, who asks
    documents       texts: validate, plan, apply
    networks        one network: its document, history, copies
    inspection      what is in it: functions, ports, endpoints, links, counters; traces
    tenants         tenants and tokens
    streams         events and counters as they come (server-sent events)
    bodies          what is sent and answered, from which the OpenAPI description is made
    page            the description for people, without anything from elsewhere

Each route says by its type who may call it (`Looking`, `Changing`, `Administrating`); a test asks every route as every
role.  Routes are plain functions, which run in threads; only what streams is a coroutine.
"""
from __future__ import annotations

from .application import application

__all__ = ["application"]
