"""Everything the language can raise, in one tree.

    LanguageError
    ├── DeclarationError (TypeError)     a class is not a well-formed layout, table, function or configuration
    ├── ConfigError (ValueError)         a configuration value is outside what its field allows
    │   └── Contradiction                it is not what another function of the document says
    ├── Reject                           the packet cannot be processed further: it becomes a drop, with a reason
    ├── StaleView (RuntimeError)         a view was used after the bytes below it moved
    └── GuardedField (AttributeError)    a field under a checksum was assigned instead of rewritten

`Reject` is control flow, not a fault: `Packet.parse`, `require` and `table[key]` raise it, `Function.run` turns it
into `drop(reason)`.  The others are mistakes of the author, and the compiler finds the same mistakes before a
packet does: a stale view or a guarded assignment is a compile error with a caret, and these classes are what
CPython says about the same line.
"""
from __future__ import annotations


class LanguageError(Exception):
    """The root of everything `iovisor.language` raises."""


class DeclarationError(LanguageError, TypeError):
    """A class statement does not describe a layout, table, function or configuration."""


class ConfigError(LanguageError, ValueError):
    """A configuration value does not fit its field; `path` names the field."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class Contradiction(ConfigError):
    """A value that fits its field, and not what another function of the document says, at `place` of its configuration.

    `fix`: what to do here about it.
    """

    def __init__(self, path: str, message: str, fix: str, other: str, place: str) -> None:
        super().__init__(path, message)
        self.fix, self.other, self.place = fix, other, place


class Reject(LanguageError):
    """Stop here and drop the packet for `reason` (a number below 256)."""

    def __init__(self, reason: int) -> None:
        super().__init__(reason)
        self.reason = int(reason)


class StaleView(LanguageError, RuntimeError):
    """A header or record was used after the packet was resized or its table was written."""


class GuardedField(LanguageError, AttributeError):
    """A field under a checksum was assigned; `Packet.rewrite` keeps the checksum right on every target."""
