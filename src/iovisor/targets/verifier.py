"""The verifier's refusal, on the author's line.

The kernel quotes the Python it was given (`; source @ file.py:12`) above the instructions it walks.  The last quotation
before the end of its log is where it stopped.  Its reason is translated where a plain sentence is possible; the full
log stays on the error.  Source the compiler accepted must never come here: the message says whose bug it is.
"""
from __future__ import annotations

import linecache
import re

from ..compiler.errors import Scope, Span, VerifierRefused
from ..kernel import VerifierRejection

_QUOTED = re.compile(r"; .* @ (\S+):(\d+)$")
_NOISE = re.compile(r"(; |\d+: |processed |from |func#|Live regs|mark_|\s|$|verification time|stack depth|BPF program)")
PLAIN = (
    (r"invalid access to packet", "a packet access is not covered by a bounds check"),
    (r"invalid mem access '(map_value_or_null|mem_or_null)'", "a table entry is used before it is known to be there"),
    (r"invalid mem access", "a pointer is used that the verifier does not trust"),
    (r"!read_ok", "a value is read on a path that never sets it"),
    (r"BPF program is too large|too complex|processed \d{6,} insns", "the program is too long or branchy to verify"),
    (r"back-edge|infinite loop", "the verifier sees no end of a loop"),
    (r"stack", "the program's stack is too large or is used out of bounds"),
    (r"min value is negative|unbounded", "an offset or a length has no bound the verifier can see"),
)


def refused(rejection: VerifierRejection, files: dict[str, str], whole: Span) -> VerifierRefused:
    """The author's error.  `files` maps the names LLVM knows to full paths; `whole` is used when no line is quoted."""
    lines = rejection.log.splitlines()
    where: tuple[str, int] | None = None
    for line in lines:
        found = _QUOTED.match(line)
        if found:
            where = found[1], int(found[2])
    said = [line for line in lines if not _NOISE.match(line)]
    last = "; ".join(said[-2:]) or rejection.reason
    plain = next((text for pattern, text in PLAIN if re.search(pattern, rejection.log)), "")
    span = whole
    if where is not None:
        path = files.get(where[0].rsplit("/", 1)[-1], where[0])
        quoted = linecache.getline(path, where[1]).rstrip()
        span = Span(Scope(whole.scope.name, path, where[1]), where[1], len(quoted) - len(quoted.lstrip()), where[1],
                    len(quoted))
    message = (f"the kernel's verifier refused this: {plain or last}"
               + (f" ({last})" if plain else "") + "; accepted source must never be refused, so this is a bug of the "
               "compiler: please report it with this file and the log (IOVISOR_DUMP=verifier)")
    error = VerifierRefused(message, span)
    error.log, error.reason = rejection.log, last
    return error
