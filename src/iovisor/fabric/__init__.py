"""A network running on one host.

So far: one function joined to devices (`Running`).  Instances joined port to port, wiring, adoption and upgrade are the
next chapter (docs/roadmap.md), and this package is their home.
"""
from __future__ import annotations

from .edges import Edge
from .running import Running

__all__ = ["Edge", "Running"]
