"""Images kept by content.

An image may be used again if nothing it was made of has changed: the text of every file a reached function stands in,
every constant that was folded, the layouts of its tables and configuration, the target, and the versions of compiler
and LLVM.  To find one without building anything, an entry keeps the list of what it depends on, and the list is
checked: a few hashes of small files, half a millisecond.

A function defined inside another (closures) is not kept: its constants have no name under which to find them again.
Writing is atomic (a new file, renamed); a broken entry is removed and counts as absent.
"""
from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..language.function import Function
from .image import Image
from .target import Target

if TYPE_CHECKING:
    from .build import Builder

BYTES = ("code", "btf", "func_info", "line_info")


@dataclass(frozen=True)
class Dependencies:
    """What an image was made of: digests of files, and folded constants as text.  None: not to be kept."""

    files: dict[str, str]
    constants: dict[str, str]
    keep: bool

    @classmethod
    def of(cls, builder: Builder) -> Dependencies:
        sources = builder.reached.values()
        keep = not any(s.function.__closure__ or "<locals>" in s.function.__qualname__ for s in sources)
        files = {s.file for s in sources} | {_file(builder.kind)}
        constants = {key: repr(value) for key, value in builder.folded.items()}
        return cls({f: _digest(f, _stamp(f)) for f in files}, constants, keep and all(map(os.path.exists, files)))


def _file(kind: type) -> str:
    module = sys.modules.get(kind.__module__)
    return getattr(module, "__file__", None) or ""


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(4096)
def _digest(path: str, stamp: tuple[int, int]) -> str:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""


@lru_cache(1)
def toolchain() -> str:
    """The compiler itself is part of what an image is made of.

    Its files by time and size, not by content: reading them all would take longer than loading a kept image.  LLVM by
    the file that holds llvmlite's version, without importing either.
    """
    here = Path(__file__).parent.parent
    digest = hashlib.blake2b(digest_size=16)
    for folder in ("compiler", "language", "targets"):
        with os.scandir(here / folder) as found:
            files = sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in found if e.name.endswith(".py"))
        digest.update(f"{folder} {files}".encode())
    llvm = find_spec("llvmlite")
    where = os.path.join(os.path.dirname(llvm.origin or ""), "_version.py") if llvm is not None else ""
    return f"{__version__} {where} {_stamp(where)} {digest.hexdigest()}"


def declared(kind: type[Function]) -> str:
    """Layouts and declarations of a kind as text."""
    spec = kind.spec()
    layouts = {c for t in spec.tables.values() for c in (t.key, t.value) if isinstance(c, type)}
    layouts |= {*spec.events, spec.config.layout}
    fields = sorted(f"{c.__name__} {list(getattr(c, 'fields', {}).values())}" for c in layouts)
    return f"{spec.tables} {spec.ports} {[e.__name__ for e in spec.events]} {fields}"


class Cache:
    """A directory of images.  `root` defaults to `$IOVISOR_CACHE`, else the user's cache directory."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.root = Path(root or os.environ.get("IOVISOR_CACHE") or os.path.join(home, "iovisor"))

    def find(self, kind: type[Function], entry: str, target: Target) -> Image | None:
        """The image, if everything it was made of is as it was."""
        path = self._path(kind, entry, target)
        try:
            entry_of = json.loads(path.read_text())
            if any(_digest(f, _stamp(f)) != d for f, d in entry_of["files"].items()):
                return None
            if any(_constant(key) != value for key, value in entry_of["constants"].items()):
                return None
            return _decode(entry_of["image"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            return None

    def keep(self, kind: type[Function], entry: str, target: Target, image: Image, made_of: Dependencies) -> None:
        if not made_of.keep:
            return
        path = self._path(kind, entry, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"files": made_of.files, "constants": made_of.constants, "image": _encode(image)})
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)

    def _path(self, kind: type[Function], entry: str, target: Target) -> Path:
        parts = (_file(kind), kind.__qualname__, entry, target.identity, declared(kind), toolchain())
        key = hashlib.blake2b("\0".join(parts).encode(), digest_size=20).hexdigest()
        return self.root / key[:2] / f"{key}.json"


def _constant(key: str) -> str | None:
    """The present value of a folded constant, as text."""
    file, _, name = key.rpartition(":")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == file and name in vars(module):
            return repr(vars(module)[name])
    return None


def _encode(image: Image) -> dict[str, Any]:
    data = {name: base64.b64encode(getattr(image, name)).decode() for name in BYTES}
    return data | {"kind": image.kind, "entry": image.entry, "target": image.target, "maps": image.maps,
                   "floods": image.floods, "sums": image.sums}


def _decode(data: dict[str, Any]) -> Image:
    code, btf, functions, lines = (base64.b64decode(data[name]) for name in BYTES)
    return Image(data["kind"], data["entry"], data["target"], code, tuple(data["maps"]), btf, functions, lines,
                 floods=data["floods"], sums=data["sums"])
