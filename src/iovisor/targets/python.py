"""CPython: the reference, as a target among the others.

There is nothing to lower; this file gives the interpreter the interface the compiled targets have, so that tests and
tools need not care.
"""
from __future__ import annotations

from types import TracebackType
from typing import Self

from ..language.function import Function
from ..language.packet import Packet
from ..language.verdicts import Verdict


class PythonLoaded:
    """A function that CPython runs."""

    target = "python"

    def __init__(self, function: Function) -> None:
        self.function = function

    def run(self, packet: Packet, entry: str = "ingress") -> Verdict:
        return self.function.run(packet, entry)

    @property
    def drops(self) -> dict[int, int]:
        """Drops by reason."""
        return dict(self.function.drops)

    def close(self) -> None:
        """Nothing to give back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
