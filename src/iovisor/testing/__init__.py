"""What network functions are tested with, here and by whoever writes one.

    agree(Switch, traffic(seed=1, count=1000))            the same answers from CPython, native code, TC and XDP
    ethernet(...) / ipv4(...) / udp(...) / b"payload"     packets that read like packets, and print themselves
    frames(), arrivals()                                  hypothesis strategies, from the layouts of headers
    Lab()                                                 namespaces as hosts, real peers, exact captures

Nothing is imported before it is asked for: packets need no compiler, and hypothesis need not be installed.  Wherever a
module needs the kernel, root or LLVM, it says so in its opening essay.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import Agreement, Arrival, Disagreement, agree, available
    from .bulk import traffic
    from .capture import Capture, Captured, PcapWriter
    from .lab import Host, Lab
    from .packets import Frame, Layer, describe

_HOMES = {
    "Agreement": "agreement", "Arrival": "agreement", "Disagreement": "agreement", "agree": "agreement",
    "available": "agreement", "traffic": "bulk", "Capture": "capture", "Captured": "capture", "Host": "lab",
    "Lab": "lab",
    "Frame": "packets", "Layer": "packets", "describe": "packets", "PcapWriter": "capture",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    found = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "Agreement", "Arrival", "Capture", "Captured", "Disagreement", "Frame", "Host", "Lab", "Layer", "PcapWriter",
    "agree", "available", "describe", "traffic",
]
