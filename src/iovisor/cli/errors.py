"""What an error looks like to whoever typed the command.

    CompileError, SyntaxError       file, line, caret, message, notes: as CPython prints it
    an exception of the author's    the last line of the author's file that was running, and the exception
    ConfigError, KernelError, ...   one sentence, and advice if the error brings any
    anything else                   ours: one line that says so, and how to see more
"""
from __future__ import annotations

import traceback
from pathlib import Path

import click

OURS = str(Path(__file__).parents[1])
KNOWN = {"LanguageError", "KernelError", "Unusable"}


class Unusable(Exception):
    """What was asked for cannot be done; the message says why, and what to do instead."""


def said(error: BaseException) -> str:
    """The text for a person, coloured; click takes the colours away where nobody sees them."""
    if isinstance(error, SyntaxError):
        return _quoted(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _inside(frame.filename)]
    if kinds & KNOWN:
        where = f"{frames[-1].filename}:{frames[-1].lineno}: " if "DeclarationError" in kinds and frames else ""
        advice = getattr(error, "advice", "")
        return _red("error: ") + where + str(error) + (f"\n{advice}" if advice and advice not in str(error) else "")
    if frames:
        lines = traceback.format_list(frames[-1:]) + traceback.format_exception_only(error)
        return "".join(lines).rstrip()
    last = "".join(traceback.format_exception_only(error)).rstrip()
    return _red("error: ") + f"{last}\nThis is a mistake in iovisor. `iovisor --traceback ...` shows where."


def _quoted(error: SyntaxError) -> str:
    """As CPython prints it; the caret and the name of the error stand out."""
    lines = "".join(traceback.format_exception_only(error)).rstrip().splitlines()
    shown = []
    for line in lines:
        name, colon, rest = line.partition(": ")
        if line.strip() and not line.strip(" ^~"):
            line = _red(line)
        elif colon and name.rpartition(".")[2] == type(error).__name__:
            line = f"{_red(type(error).__name__)}: {rest}"
        shown.append(line)
    return "\n".join(shown)


def _inside(file: str) -> bool:
    """Whether a frame is of iovisor, Python or a package, rather than the author's."""
    functions = str(Path(OURS) / "functions")
    return (file.startswith(OURS) and not file.startswith(functions)) or file.startswith("<") \
        or "site-packages" in file or file.startswith(str(Path(traceback.__file__).parent))


def _red(text: str) -> str:
    return click.style(text, fg="red", bold=True)
