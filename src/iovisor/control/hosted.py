"""A network in a thread of its own.

Everything that happens to a network happens in its thread: packets for its Python, its timers, changes, questions.  So
nothing of it needs a lock, and one tenant's slow handler or large change holds up nobody else's.  The thread runs an
event loop; `call` puts a question into it and waits for the answer.

There is one way to begin: adopt what is there.  What cannot be adopted (the machine was started anew, so nothing is
pinned; or another version wrote it) is cleared away, and the network begins empty; what it shall be, the store knows,
and what was promised, its shelf, which has its durable tables.  There are two ways to end: `leave`, after which the
kernel goes on with it, and `destroy`; the shelf is the platform's to take away.
"""
from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from ..compiler.cache import Cache
from ..fabric import Network
from ..fabric.shelf import Unkept
from ..kernel import Netlink, NetworkNamespace, filesystem, interfaces
from ..store import Shelf
from .sandbox.attendant import Staff
from .troubles import Troubles

T = TypeVar("T")
SERVING = "slow path"
STEADY = 5.0                    # seconds after which what was begun again is believed to be well
log = logging.getLogger(__name__)


class Hosted:
    """Made by the platform; `name` is what people call it, `folder` its place, `shelf` where its durable tables are."""

    def __init__(self, name: str, folder: Path, shelf: Path, namespace: NetworkNamespace | None, cache: Cache | None,
                 troubles: Troubles) -> None:
        self.name, self.folder, self.namespace, self.cache, self._troubles = name, folder, namespace, cache, troubles
        self.shelf = Shelf(shelf)
        self.adopted = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"network {name}", daemon=True)
        self._network: Network | None = None
        self._serving: asyncio.Task[None] | None = None
        self._thread.start()
        try:
            self.call(self._begin)
        except BaseException:
            self._end()
            raise

    def call(self, do: Callable[[Network], T]) -> T:
        """The answer of `do(network)`, in the network's thread."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                found = do(self._network) if self._network is None else self._asked(do)      # type: ignore[arg-type]
            except BaseException as error:
                answer.set_exception(error)
            else:
                answer.set_result(found)
            finally:
                if self._network is not None:
                    self._staff.keep(instance.function for instance in self._network.instances.values())

        if not self._thread.is_alive():
            raise RuntimeError(f"{self.name} has ended")
        self._loop.call_soon_threadsafe(run)
        return answer.result()

    def _asked(self, do: Callable[[Network], T]) -> T:
        """What was written to durable tables is on disk before anybody is told that it was."""
        assert self._network is not None
        with self._network.kept():
            return do(self._network)

    def leave(self) -> None:
        """End the thread; the network runs on."""
        def leave(network: Network) -> None:
            self._quiet()
            network.leave()
        self.call(leave)
        self._end()

    def destroy(self) -> None:
        """End the network, and everything that was made for it."""
        def close(network: Network) -> None:
            self._quiet()
            with contextlib.suppress(Unkept):           # nobody will ask for it
                network.close()
        self.call(close)
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- parts -------------------------------------------------------------------------------------------------------

    def _begin(self, _: Any) -> None:
        try:
            if filesystem.is_mounted(self.folder / "bpf"):
                self._network = Network.adopt(self.folder, namespace=self.namespace, cache=self.cache,
                                              durable=self.shelf)
                self.adopted = True
        except Exception as error:                          # whatever its functions' Python does at adoption, too
            log.warning("%s cannot be adopted, and begins anew: %s", self.name, error)
            self._troubles.anew(self.name, str(error))
        if self._network is None:
            clear(self.folder, self.namespace)
            self._network = Network(self.name, namespace=self.namespace, cache=self.cache, pins=self.folder,
                                    durable=self.shelf)
        self._serving = self._loop.create_task(self._serve(self._network))

    async def _serve(self, network: Network) -> None:
        while True:
            steady = self._loop.call_later(STEADY, self._troubles.over, self.name, SERVING)
            try:
                await network.serve()
            except Exception as error:                      # nobody else would: without it the network is half of one
                steady.cancel()
                log.exception("the slow path of %s failed, and is begun again", self.name)
                self._troubles.begun(self.name, SERVING, f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)
            finally:
                steady.cancel()

    def _quiet(self) -> None:
        """Serve no more: from here on nothing of the network is in use but by who called."""
        if self._serving is not None:
            self._serving.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._staff = Staff(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._staff.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    self._loop.run_until_complete(task)
            self._loop.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


def clear(folder: Path, namespace: NetworkNamespace | None) -> None:
    """Take away whatever a network has left in its folder, and its devices.

    Each pin by itself: a process that has a mount namespace of its own, as all have that `ip netns exec` runs, keeps a
    copy of the mount, and with it every pin.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        group = json.loads((folder / "topology.json").read_text())["group"]
        with Netlink(namespace) as netlink:
            netlink.attempt(interfaces.delete_group(group))
    for path in (folder / "bpf").rglob("*"):
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(FileNotFoundError):
        filesystem.unmount(folder / "bpf")
        shutil.rmtree(folder)


__all__ = ["Hosted", "clear"]
