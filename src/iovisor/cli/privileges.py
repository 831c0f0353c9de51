"""What a command may do here: whether there is a compiler, and whether the kernel will listen.

Both are asked before anything is begun, because the kernel answers EPERM for five reasons and names none.
"""
from __future__ import annotations

import os
import sys

from .errors import Unusable


def denied() -> str:
    """Why programs cannot be loaded and namespaces made here; empty if they can."""
    if not sys.platform.startswith("linux"):
        return f"this is {sys.platform}, and eBPF is Linux's"
    from ..kernel.capabilities import Capability, missing
    absent = missing((Capability.BPF, Capability.NET_ADMIN, Capability.SYS_ADMIN))
    if not absent:
        return ""
    names = ", ".join(one.label for one in absent)
    return f"it needs {names}; " + ("root has them not, here" if os.geteuid() == 0 else "run it as root")


def demand_kernel(what: str) -> None:
    """Refuse, clearly, where the kernel would."""
    why = denied()
    if why:
        raise Unusable(f"{what} loads programs into the kernel and makes network namespaces: {why}")


def demand_compiler() -> None:
    """Refuse where there is no LLVM."""
    import importlib.util
    if importlib.util.find_spec("llvmlite") is None:
        raise Unusable("compiling needs LLVM: pip install 'iovisor[compile]' (functions run in CPython without it)")


__all__ = ["demand_compiler", "demand_kernel", "denied"]
