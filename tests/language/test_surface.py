"""What `iovisor.language` promises to authors, and what importing it costs them."""
from __future__ import annotations

import subprocess
import sys

import pytest

from iovisor import language

#: Modules that importing the language must never load: each is a compiler, a door to the kernel, or simply heavy.
UNWANTED = {"llvmlite", "ctypes", "asyncio", "socket", "ssl", "subprocess", "hashlib", "secrets", "random", "ipaddress",
            "json", "logging", "pathlib", "threading", "click", "rich", "pydantic", "iovisor.wire", "iovisor.compiler"}


def test_all_is_honest() -> None:
    public = {name for name, value in vars(language).items()
              if not name.startswith("_") and not isinstance(value, type(sys)) and name != "annotations"}
    assert set(language.__all__) == public
    assert len(set(language.__all__)) == len(language.__all__)


def loaded(program: str) -> set[str]:
    run = subprocess.run([sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"], capture_output=True,
                         text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_language_takes_little() -> None:
    base, found = loaded("pass"), loaded("import iovisor.language")
    assert not UNWANTED & found - base
    ours = {name for name in found if name.startswith("iovisor")}
    assert ours == {"iovisor", "iovisor.language"} | {f"iovisor.language.{name}" for name in (
        "addresses", "component", "configuration", "errors", "function", "integers", "layout", "machine", "migration",
        "packet", "ports", "queues", "streams", "surroundings", "tables", "verdicts")}
    assert len(found - base) - len(ours) <= 50, "the standard library's share"


@pytest.mark.parametrize("name", sorted(set(language.__all__) - {"auto"}))
def test_what_is_exported_is_ours_and_says_what_it_is(name: str) -> None:
    value = getattr(language, name)
    if callable(value):
        assert value.__module__.startswith("iovisor.language") or name.startswith("u") or name in (
            "mac", "ipv4", "ipv6", "bitrate", "time", "period", "Port")
        if not name.startswith("u") and name not in ("mac", "ipv4", "ipv6", "bitrate", "time", "period", "Port"):
            assert value.__doc__


def test_errors_are_one_tree() -> None:
    for name in ("ConfigError", "DeclarationError", "GuardedField", "Reject", "StaleView"):
        assert issubclass(getattr(language, name), language.LanguageError)
