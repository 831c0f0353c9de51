"""The daemon of a host: the platform, and its API on a unix socket, and over TCP if one likes.

    iovisor daemon --state /var/lib/iovisor --socket /run/iovisor/daemon.sock
                   --listen 0.0.0.0:8443 --certificate cert.pem --key key.pem

The unix socket belongs to root and a group, and the kernel says who is at its other end.  TCP is TLS, and everybody
needs a token; without TLS only the machine itself may be listened to.

SIGTERM ends it gracefully, SIGKILL at once; to the networks it is the same: they run on, and the next daemon adopts
them.  One daemon at a time has a state directory.  It says READY when every network is what it shall be, and WATCHDOG
as long as its event loop turns *and* the lock of changes is not held by something that hangs.
"""
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import grp
import ipaddress
import logging
import os
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..kernel import KernelError, NetworkNamespace
from .api import application
from .notify import notify, watched
from .platform import Platform

log = logging.getLogger(__name__)
GRACE = 2                       # seconds that an answer under way has when the daemon ends


class Unusable(Exception):
    """The daemon cannot begin; the message says why, and what to do."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    state: Path
    socket: Path
    group: str = ""
    listen: str = ""
    certificate: Path | None = None
    key: Path | None = None
    namespace: str = ""


class Peer(H11Protocol):
    """Knows who is at the other end of a unix socket."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None and made.family == socket.AF_UNIX:
            raw = made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            self.app_state = {**self.app_state, "peer": struct.unpack("3i", raw)}


class Server(uvicorn.Server):
    """One of several; signals are the daemon's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(options: Options) -> None:
    """Serve until a signal ends it."""
    with alone(options.state), unix_socket(options.socket, options.group) as local:
        servers = [(Server(_config(None)), local)]
        if options.listen:
            servers.append((Server(_config(_tls(options))), tcp_socket(options.listen)))
        namespace = _namespace(options.namespace)
        platform = Platform(options.state, namespace)
        try:
            platform.start()
            application_of = application(platform)
            for server, _ in servers:
                server.config.app = application_of
            asyncio.run(_serve(platform, servers))
        finally:
            platform.stop()
            if namespace is not None:
                namespace.close()


def _namespace(text: str) -> NetworkNamespace | None:
    """A network namespace by name, or by path; our own if nothing is said."""
    if not text:
        return None
    try:
        if "/" in text:
            return NetworkNamespace(os.open(text, os.O_RDONLY | os.O_CLOEXEC))
        return NetworkNamespace.open(text)
    except (OSError, KernelError):
        raise Unusable(f"there is no network namespace {text}: make it, `ip netns add {text}`") from None


async def _serve(platform: Platform, servers: list[tuple[Server, socket.socket]]) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        notify("STOPPING=1")
        for server, _ in servers:
            server.should_exit = True
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    serving = [asyncio.create_task(server.serve(sockets=[listening])) for server, listening in servers]
    while not all(server.started for server, _ in servers) and not any(task.done() for task in serving):
        await asyncio.sleep(0.01)
    notify("READY=1", f"STATUS={len(platform.hosted)} networks")
    alive = asyncio.create_task(_alive(platform))
    log.info("ready: %d networks, listening at %s", len(platform.hosted),
             ", ".join(str(listening.getsockname()) for _, listening in servers))
    try:
        await asyncio.gather(*serving)
    finally:
        alive.cancel()


async def _alive(platform: Platform) -> None:
    """Signs of life."""
    interval = watched()
    while interval:
        if await asyncio.to_thread(platform.turns, interval):
            notify("WATCHDOG=1", f"STATUS={len(platform.hosted)} networks")
        await asyncio.sleep(interval / 2)


@contextlib.contextmanager
def alone(state: Path) -> Iterator[None]:
    """Have a state directory to oneself."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unusable(f"another daemon has {state}: stop it, or give this one a --state of its own") from None
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def unix_socket(path: Path, group: str) -> Iterator[socket.socket]:
    """A socket for root, and for a group if there is one; what a daemon before us has left is replaced."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            made.bind(str(path))
        except OSError as error:
            raise Unusable(f"{path} cannot be a socket: {error.strerror or error}") from None
        finally:
            os.umask(before)
        if group:
            try:
                os.chown(path, -1, grp.getgrnam(group).gr_gid)
            except KeyError:
                raise Unusable(f"there is no group {group}: make it, `groupadd {group}`, or name another") from None
            path.chmod(0o660)
        yield made
    finally:
        made.close()
        path.unlink(missing_ok=True)


def tcp_socket(listen: str) -> socket.socket:
    """Bound to HOST:PORT."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, int(port)))
    except (OSError, ValueError) as error:
        made.close()
        raise Unusable(f"{listen} cannot be listened at: {error}; write ADDRESS:PORT") from None
    return made


def _tls(options: Options) -> tuple[Path, Path] | None:
    """Certificate and key; none is allowed on the loopback alone."""
    if options.certificate is not None and options.key is not None:
        return options.certificate, options.key
    host = options.listen.rpartition(":")[0].strip("[]")
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback and options.certificate is None and options.key is None:
            return None
    raise Unusable(f"tokens would cross the network to {options.listen} in clear: give --certificate and --key")


def _config(tls: tuple[Path, Path] | None) -> uvicorn.Config:
    config = uvicorn.Config(_unset, http=Peer, ws="none", lifespan="off", log_config=None, access_log=False,
                            server_header=False, timeout_graceful_shutdown=GRACE, timeout_keep_alive=30,
                            h11_max_incomplete_event_size=1 << 16, interface="asgi3",
                            ssl_certfile=str(tls[0]) if tls else None, ssl_keyfile=str(tls[1]) if tls else None)
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise Unusable(f"this certificate and key cannot be used: {error}") from None
    config.loaded = False                       # the application comes when the platform stands
    return config


async def _unset(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the application is set before anything is served")


__all__ = ["Options", "Unusable", "run"]
