"""Files of authors, read: what the kinds in them are, and what a configuration means to them.

Each question is put to a worker of its own, which knows the file and nothing else, and ends with the answer.  Answers
are kept by what was asked, in a folder beside the file: a daemon that begins anew, a network that is looked at every
five seconds, ask nothing twice.  What was kept is checked again like what was just said, so a newer daemon does not
believe what an older one let through.

One author's endless file does not keep the others waiting: `AT_ONCE` are read at a time, each for `PATIENCE`, and of
one owner one.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...compiler.cache import toolchain
from ...compiler.image import Image
from ...language import machine
from ...targets.tc import Tc
from . import sealing
from .channel import Inbox, Malformed, Message, packed
from .confinement import begin
from .description import Described, Forged, read_numbers

PATIENCE = 40.0                 # seconds for one question
AT_ONCE = 2
KEPT = 256                      # configurations of a file that are remembered


class Failed(Exception):
    """The file could not be read; the message is for its author."""


@dataclass(frozen=True)
class Resolution:
    """What a configuration means: its normal form; the record the data path reads, and what sizes stand for."""

    normal: dict[str, Any]
    faults: tuple[Message, ...]
    record: str = ""
    numbers: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Bench:
    """One file: its module's name, what its author calls it, its text, and the folder of what is known of it."""

    module: str
    file: str
    text: str
    folder: Path


class Workshop:
    """Any number of threads may ask."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._known: dict[tuple[str, ...], Any] = {}

    def describe(self, bench: Bench, name: str) -> tuple[Described, dict[str, Image]]:
        """A kind of a file, and its images, sealed.  LookupError names the kinds there are; Failed says why not."""
        data = self._asked(bench, "describe", {"name": name})
        if "names" in data:
            raise LookupError(", ".join(map(str, data["names"])) or "none")
        try:
            described = Described.read(data)
            if described.name != name:
                raise Forged("this is another function")
            return described, _images(data, described)
        except (Forged, sealing.Unsealed) as error:
            raise Failed(f"{bench.file}: {name} is not loaded: {error}") from error

    def resolve(self, bench: Bench, described: Described, config: Mapping[str, Any]) -> Resolution:
        """What a configuration means to a kind."""
        data = self._asked(bench, "configure", {"name": described.name, "config": config})
        try:
            normal, faults = data["normal"], data["faults"]
            if not isinstance(normal, dict) or not isinstance(faults, list):
                raise Forged("this is no configuration")
            if faults:
                return Resolution(normal, tuple(_fault(one) for one in faults))
            record = bytes.fromhex(data["record"])
            if len(record) != described.record:
                raise Forged("the configuration has another size")
            return Resolution(normal, (), record.hex(), read_numbers(described, data["numbers"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Failed(f"{bench.file}: the configuration of {described.name} is not understood: {error}") from error

    def prune(self, folder: Path) -> None:
        """Forget what is known of a file."""
        shutil.rmtree(folder, ignore_errors=True)

    def _asked(self, bench: Bench, do: str, question: Message) -> Message:
        """The answer to a question, kept or given now."""
        text = json.dumps([do, question, toolchain(), __version__], sort_keys=True)
        key = bench.module, do, hashlib.sha256(text.encode()).hexdigest()[:32]
        if key in self._known:
            return self._known[key]  # type: ignore[no-any-return]
        path = bench.folder / f"{do}-{key[2]}.json"
        try:
            found: Message = json.loads(path.read_text())
        except (OSError, ValueError):
            with self._place():
                found = _ask(bench, {"ask": 1, "do": do, **question}, self.patience)
            _keep(path, found)
        if len(self._known) > 16 * KEPT:
            self._known.clear()
        self._known[key] = found
        return found

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(timeout=2 * self.patience):
            raise Failed("too many files are being read at the moment: try again")
        try:
            yield
        finally:
            self._places.release()


def _ask(bench: Bench, question: Message, patience: float) -> Message:
    """Put one question to a worker of its own."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            worker = begin(theirs)
        try:
            ours.settimeout(patience)
            ours.sendall(packed({
                "purpose": "reading", "module": bench.module, "file": bench.file, "text": bench.text,
                "machine": bytes(machine.MACHINE).hex()}))
            ours.sendall(packed(question))
            answer = _answer(ours, time.monotonic() + patience)
        except TimeoutError:
            raise Failed(f"{bench.file} was not read within {patience:g} seconds: what stands at its top level runs "
                         "when it is imported") from None
        except (Malformed, OSError) as error:
            raise Failed(f"{bench.file} cannot be read: {error}{_last_words(worker)}") from None
        except EOFError:
            raise Failed(f"{bench.file} cannot be read: whoever read it ended before it was done; a file is read with "
                         f"1 GiB of memory and 30 seconds of a processor{_last_words(worker)}") from None
        finally:
            end(worker)
    if "error" in answer:
        said = answer["error"] if isinstance(answer["error"], dict) else {}
        text = str(said.get("text", ""))[:20_000]
        raise Failed(f"{bench.file} cannot be imported: {text}" if said.get("kind") == "other" else
                     f"{bench.file} does not stand: {text}")
    if not isinstance(answer.get("value"), dict):
        raise Failed(f"{bench.file}: the answer makes no sense")
    return answer["value"]  # type: ignore[no-any-return]


def _answer(channel: socket.socket, until: float) -> Message:
    inbox = Inbox()
    while (found := inbox.take()) is None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        data = channel.recv(1 << 16)
        if not data:
            raise EOFError
        inbox.feed(data)
    return found


def end(worker: subprocess.Popen[bytes]) -> None:
    """End a worker, whatever it does, and everything in its namespaces."""
    worker.kill()
    worker.wait()
    if worker.stderr is not None:
        worker.stderr.close()


def _last_words(worker: subprocess.Popen[bytes]) -> str:
    """What was said before it was confined."""
    worker.kill()
    worker.wait()
    assert worker.stderr is not None
    os.set_blocking(worker.stderr.fileno(), False)
    said = (worker.stderr.read(4096) or b"").decode(errors="replace").strip()
    return f" ({said.splitlines()[-1]})" if said else ""


def _keep(path: Path, answer: Message) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = sorted(path.parent.glob("configure-*.json"), key=lambda other: other.stat().st_mtime)
    for other in others[:-KEPT]:
        other.unlink(missing_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    draft.write_text(json.dumps(answer))
    draft.replace(path)


def _images(data: Message, described: Described) -> dict[str, Image]:
    found, said = {}, data.get("images")
    if not isinstance(said, dict) or said.keys() != described.lines.keys():
        raise Forged("there are no images")
    for entry, one in said.items():
        try:
            maps = one["maps"]
            if not isinstance(maps, list) or not all(isinstance(name, str) for name in maps):
                raise Forged("an image names its maps")
            code, btf, functions, lines = (bytes.fromhex(one[part])
                                           for part in ("code", "btf", "func_info", "line_info"))
        except (KeyError, TypeError, ValueError) as error:
            raise Forged(f"this is no image: {error}") from error
        image = Image(described.name, entry, Tc().identity, code, tuple(maps), btf, functions, lines)
        sealing.check(image, frozenset(described.tables))
        found[entry] = sealing.seal(image)
    return found


def _fault(said: Any) -> Message:
    path = said["path"]
    if not isinstance(path, list) or not all(type(step) in (str, int) for step in path) or len(path) > 32:
        raise Forged("a fault is somewhere")
    return {"path": tuple(path), "what": str(said["what"])[:1000], "fix": str(said["fix"])[:1000],
            "missing": said["missing"] is True, "unknown": said["unknown"] is True}


__all__ = ["Bench", "Failed", "Resolution", "Workshop", "end"]
