"""A platform in a process of its own, to be killed: it applies one document, and says when it begins and when it has
done so."""
from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from iovisor.compiler.cache import Cache
from iovisor.control.platform import Platform
from iovisor.kernel import NetworkNamespace
from tests.control.conftest import apply


def work(state: str, namespace: str, images: str, text: str, said: Connection) -> None:
    """`namespace` is a path under /proc."""
    here = Platform(Path(state), NetworkNamespace(os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)), Cache(images))
    here.start()
    said.send("begins")
    said.send(apply(here, text)[0])
    signal.pause()
