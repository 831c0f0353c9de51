"""`iovisor version`: what one puts into a report of a mistake."""
from __future__ import annotations

import click


@click.command("version", short_help="The versions of iovisor and of what it stands on.")
def command() -> None:
    """Say the versions of iovisor, Python, LLVM's binding and the kernel, one a line."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from iovisor import __version__
    try:
        llvm = version("llvmlite")
    except PackageNotFoundError:
        llvm = "not installed: `pip install iovisor[compile]`; functions run in CPython only"
    system = os.uname()
    for name, value in (("iovisor", __version__), ("python", platform.python_version()), ("llvmlite", llvm),
                        ("kernel", f"{system.sysname} {system.release} {system.machine}")):
        click.echo(f"{name:9}{value}")
