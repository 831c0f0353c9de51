"""The daemon, as the command line sees it: questions and answers over HTTP, on a unix socket or TLS.

    unix:/run/iovisor/daemon.sock       the daemon of this machine; root needs no token
    https://host:8443                   another's, with the token in IOVISOR_TOKEN

`--host` or IOVISOR_HOST says which.  Nothing but the standard library: a command answers before a larger client would
be imported.
"""
from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

from .errors import Unusable

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

C = TypeVar("C", bound=Callable[..., Any])
DEFAULT = "unix:/run/iovisor/daemon.sock"


class Refusal(Unusable):
    """What the daemon said: `problem` is its document."""

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem = problem
        super().__init__(_said(problem))


class Client:
    """Asks one daemon."""

    def __init__(self, host: str = "") -> None:
        self.host = host or os.environ.get("IOVISOR_HOST", "") or DEFAULT

    def ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The answer to a request; a Refusal if it is none."""
        with self._explained(), self._asked(method, path, body, query) as response:
            raw = response.read()
        try:
            answer = json.loads(raw)
        except ValueError:
            raise Unusable(f"{self.host} does not answer like iovisor's daemon ({response.status})") from None
        if response.status >= 400:
            raise Refusal(answer)
        return answer

    def get(self, *steps: str, **query: Any) -> Any:
        """What stands at a path, given by its steps."""
        return self.ask("GET", path_of(*steps), **query)

    def post(self, *steps: str, **body: Any) -> Any:
        return self.ask("POST", path_of(*steps), body)

    def stream(self, *steps: str, **query: Any) -> Iterator[tuple[str, Any]]:
        """Events and their data, as they come."""
        with self._explained(), self._asked("GET", path_of(*steps), None, query, endless=True) as response:
            if response.status >= 400:
                raise Refusal(json.loads(response.read()))
            event = ""
            while line := response.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    yield event, json.loads(value)

    def raw(self, *steps: str, **query: Any) -> Iterator[bytes]:
        """What is no JSON, in pieces, as they come."""
        with self._explained(), self._asked("GET", path_of(*steps), None, query, endless=True) as response:
            if response.status >= 400:
                raise Refusal(json.loads(response.read()))
            while piece := response.read1(1 << 16):
                yield piece

    @contextlib.contextmanager
    def _asked(self, method: str, path: str, body: Any, query: dict[str, Any],
               endless: bool = False) -> Iterator[HTTPResponse]:
        query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()
                 if value is not None}
        headers = {"accept": "application/json"}
        if token := os.environ.get("IOVISOR_TOKEN", ""):
            headers["authorization"] = f"Bearer {token}"
        if body is not None:
            headers["content-type"] = "application/json"
        with contextlib.closing(self._connection(None if endless else 600)) as connection:
            connection.request(method, path + (f"?{urlencode(query)}" if query else ""),
                               None if body is None else json.dumps(body), headers)
            with connection.getresponse() as response:
                yield response

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What keeps a daemon from being asked, in words."""
        try:
            yield
        except FileNotFoundError:
            raise Unusable(f"no daemon listens at {self.host}: start one with `iovisor daemon run`, or say which with "
                           "--host") from None
        except PermissionError:
            raise Unusable(f"{self.host} is not yours to open: ask as root, or as a member of its group") from None
        except OSError as error:
            raise Unusable(f"{self.host} cannot be asked: {error.strerror or error}") from None

    def _connection(self, timeout: float | None) -> HTTPConnection:
        import http.client
        if self.host.startswith("unix:"):
            path = self.host.removeprefix("unix:")

            class Unix(http.client.HTTPConnection):
                def connect(self) -> None:
                    self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self.sock.settimeout(timeout)
                    self.sock.connect(path)
            return Unix("iovisor")
        where = urlsplit(self.host)
        if where.scheme == "https" and where.hostname:
            return http.client.HTTPSConnection(where.hostname, where.port or 8443, timeout=timeout)
        if where.scheme == "http" and where.hostname in ("localhost", "127.0.0.1", "::1"):
            return http.client.HTTPConnection(where.hostname, where.port or 8080, timeout=timeout)
        raise Unusable(f"{self.host!r} is no daemon: write unix:PATH or https://HOST:PORT")


def path_of(*steps: str) -> str:
    return "/v1/" + "/".join(quote(step, safe="") for step in steps)


def host_option(function: C) -> C:
    """The option --host, as `client`."""
    def made(ctx: click.Context, param: click.Parameter, value: str) -> Client:
        return Client(value)
    return click.option("--host", "client", metavar="URL", default="", callback=made, expose_value=True,
                        help=f"The daemon to ask: unix:PATH or https://HOST:PORT. [{DEFAULT}]")(function)


# -- names of what is there ------------------------------------------------------------------------------------------

def network_of(client: Client, text: str) -> tuple[str, str]:
    """TENANT/NETWORK, or NETWORK alone where only one is called so."""
    tenant, slash, name = text.partition("/")
    if slash and tenant and name and "/" not in name:
        return tenant, name
    if slash:
        raise Unusable(f"{text!r} names no network: write TENANT/NETWORK")
    found = [one for one in client.get("networks") if one["network"] == text]
    if len(found) == 1:
        return found[0]["tenant"], text
    if found:
        raise Unusable(f"{text} may be {' or '.join(one['tenant'] + '/' + text for one in found)}: say which")
    raise Unusable(f"there is no network {text}; `iovisor network ls` shows all")


def part_of(client: Client, text: str) -> tuple[str, str, str]:
    """TENANT/NETWORK/NAME, or NETWORK/NAME."""
    network, slash, name = text.rpartition("/")
    if not slash or not name:
        raise Unusable(f"{text!r} names nothing in a network: write TENANT/NETWORK/NAME")
    return (*network_of(client, network), name)


class Live(click.ParamType[str]):
    """A name, completed by asking the daemon: `kind` is networks, functions, or one of what is in a network."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.name = kind.rstrip("s")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem
        try:
            return [CompletionItem(name) for name in self._names(Client(ctx.params.get("host") or ""))
                    if name.startswith(incomplete)]
        except Exception:               # a shell is waiting: no daemon, no names
            return []

    def _names(self, client: Client) -> list[str]:
        if self.kind == "tenants":
            return [one["tenant"] for one in client.get("tenants")]
        networks = [(one["tenant"], one["network"]) for one in client.get("networks")]
        if self.kind == "networks":
            return [f"{tenant}/{network}" for tenant, network in networks]
        return [f"{tenant}/{network}/{one['name']}" for tenant, network in networks
                for one in client.get("tenants", tenant, "networks", network, self.kind)]


def _said(problem: dict[str, Any]) -> str:
    """A problem for a person: each mistake on a line of its own, as `FILE:LINE:COLUMN: what`."""
    lines = [str(problem.get("detail") or problem.get("title") or "it failed, and does not say why")]
    if problem.get("applied"):
        lines.append(f"applied before it: {', '.join(problem['applied'])}")
    return "\n".join(lines)


__all__ = ["Client", "Live", "Refusal", "host_option", "network_of", "part_of", "path_of"]
