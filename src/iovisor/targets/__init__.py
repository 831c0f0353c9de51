"""The machines a function runs on: `python` (the reference), `native`, `tc` and `xdp`.

    with load(Switch(), "tc") as switch:
        switch.run(Packet(frame, port=1))

A compiled target is a `compiler.target.Target` with its lowerings (tc.py, xdp.py, native.py) and something that loads
its images (`*_loaded.py`).  Nothing is imported before it is asked for: a machine without LLVM runs the reference,
one without root runs native code.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

from ..language.function import Function
from ..language.packet import Packet
from ..language.verdicts import Verdict

if TYPE_CHECKING:
    from ..compiler.cache import Cache
    from ..compiler.target import Target

TARGETS = ("python", "native", "tc", "xdp")


class Loaded(Protocol):
    """A function on some machine."""

    target: str
    function: Function

    def run(self, packet: Packet, entry: str = "ingress") -> Verdict:
        """Run one packet, in place."""

    @property
    def drops(self) -> dict[int, int]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


def target_named(name: str, level: int = 2, cpu: str = "v4") -> Target:
    """The compiled target of that name."""
    if name == "native":
        from .native import Native
        return Native(level=level)
    from .bpf_loaded import KINDS
    return KINDS[name][0](cpu, level)


def load(function: Function, target: str, entries: Sequence[str] = ("ingress",), *, cache: Cache | None = None,
         level: int = 2, cpu: str = "v4") -> Loaded:
    """Put an instance on a machine, its tables included; it runs packets there until closed."""
    if target == "python":
        from .python import PythonLoaded
        return PythonLoaded(function)  # type: ignore[return-value]
    if target == "native":
        from .native_loaded import NativeLoaded
        return NativeLoaded(function, tuple(entries), cache, level)  # type: ignore[return-value]
    if target not in TARGETS:
        raise ValueError(f"there is no target {target!r}: one of {', '.join(TARGETS)}")
    from .bpf_loaded import BpfLoaded
    return BpfLoaded(function, target, entries, cache=cache, level=level, cpu=cpu)  # type: ignore[return-value]
