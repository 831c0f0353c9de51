"""What the compiler says when it refuses.

    CompileError (SyntaxError)      the program is outside the language, or could misbehave
    ├── NotInLanguage               a construct that no target will ever have
    ├── TargetRefused               a primitive this target has no lowering for
    └── VerifierRefused             the kernel said no to code we made: always our bug, shown on the author's line
    BackendError (RuntimeError)     LLVM itself failed; carries what it printed

Deriving from `SyntaxError` is not a trick: CPython, pytest, editors and notebooks then print the line and underline
the place by themselves.  A message is lower case, has no final period, and says what to do.
"""
from __future__ import annotations

import linecache
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scope:
    """A function's text, at one place where it is used: inlined functions name their caller."""

    name: str
    file: str
    line: int
    caller: Span | None = None


@dataclass(frozen=True)
class Span:
    """Where a node came from.  Lines count from 1, columns from 0, as in `ast`."""

    scope: Scope
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.scope.file}:{self.line}:{self.column + 1}"


@dataclass(eq=False)
class _Details:
    notes: list[str] = field(default_factory=list)


class CompileError(SyntaxError):
    """`span` says where; the chain of callers becomes notes."""

    def __init__(self, message: str, span: Span) -> None:
        text = linecache.getline(span.scope.file, span.line) or None
        end = span.end_column + 1 if span.end_line == span.line else len((text or "").rstrip()) + 1
        super().__init__(message, (span.scope.file, span.line, span.column + 1, text, span.line, end))
        self.span = span
        caller = span.scope.caller
        while caller is not None:
            self.add_note(f"in `{span.scope.name}`, called from {caller}")
            span, caller = caller, caller.scope.caller

    def __reduce__(self) -> Any:
        return type(self), (self.msg, self.span)


class NotInLanguage(CompileError):
    """A construct outside the language."""


class TargetRefused(CompileError):
    """A primitive that has no lowering on the target."""


class VerifierRefused(CompileError):
    """The kernel's verifier rejected the program; `log` is all it said, `reason` its last words in plain ones."""

    log: str = ""
    reason: str = ""


class BackendError(RuntimeError):
    """LLVM failed on text we made; the message carries what it printed."""
