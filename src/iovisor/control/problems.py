"""What goes wrong, as whoever asked is told: a kind, a sentence, and where in the document.

    Wrong
    ├── Missing       there is no such thing; also if there is one and it is not yours to know
    ├── Forbidden     you see it, and may not do that
    ├── Refused       what was sent cannot stand; `problems` says each mistake and its place
    └── Conflicting   it can, but not now

Over HTTP they are problem+json (RFC 9457); the command line prints the same sentences.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..model import Problem


class Wrong(Exception):
    """The root; `status` is HTTP's, `kind` the last part of the problem's type."""

    status, kind, title = 500, "internal", "This is a mistake in iovisor"

    def __init__(self, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.detail, self.more = detail, more

    def document(self) -> dict[str, Any]:
        """As RFC 9457 has it."""
        return {"type": f"urn:iovisor:{self.kind}", "title": self.title, "status": self.status, "detail": self.detail,
                **self.more}


class Missing(Wrong):
    status, kind, title = 404, "missing", "There is no such thing"


class Forbidden(Wrong):
    status, kind, title = 403, "forbidden", "You may not do that"


class Unknown(Wrong):
    status, kind, title = 401, "unknown", "Who are you?"


class Conflicting(Wrong):
    status, kind, title = 409, "conflict", "Not now"


class SourcesMissing(Wrong):
    """The document names files that did not come with it: send them along."""

    status, kind, title = 422, "sources-missing", "Files are missing"

    def __init__(self, files: Iterable[str]) -> None:
        names = sorted(files)
        super().__init__(f"the document names {', '.join(names)}, and it did not come along", files=names)


class Refused(Wrong):
    """`problems` are the model's."""

    status, kind, title = 422, "refused", "This cannot stand"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)), problems=[told(problem) for problem in self.problems])

    @classmethod
    def at(cls, what: str, path: tuple[str | int, ...] = (), fix: str = "", file: str = "request") -> Refused:
        return cls([Problem(file, 0, 0, path, what, fix)])


def told(problem: Problem) -> dict[str, Any]:
    """A problem of a document, as JSON."""
    return {"file": problem.file, "line": problem.line, "column": problem.column, "pointer": problem.pointer,
            "what": problem.what, "fix": problem.fix, "warning": problem.warning}


__all__ = ["Conflicting", "Forbidden", "Missing", "Refused", "SourcesMissing", "Unknown", "Wrong", "told"]
