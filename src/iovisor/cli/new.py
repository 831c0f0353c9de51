"""`iovisor new NAME`: a function and its test, small enough to read and complete enough to change.

It has one of each thing a function can have: a manual, a configuration, two ports, a table that the configuration fills
and the data path reads, a counter, and a reason to drop.  The text lives here and not in a template file: it is short,
and a test runs what it becomes.
"""
from __future__ import annotations

import keyword
from pathlib import Path

import click

from .errors import Unusable

FUNCTION = '''"""{title}: passes frames between two ports, and drops those of stations that are blocked.

## Ports

`inside` and `outside`: what comes in through one leaves through the other.

## Configuration

| field | type | default | meaning |
|---|---|---|---|
| `blocked` | list of mac | none | stations whose frames are dropped |

## Tables

`blocked` holds the configured stations; `passed` counts frames and bytes by the port they came in through.

## Drop reasons

`BLOCKED`: the source of the frame is blocked.
"""
from __future__ import annotations

from iovisor.language import (
    Config,
    Counter,
    Function,
    Hash,
    Packet,
    Port,
    Reasons,
    Verdict,
    auto,
    drop,
    forward,
    mac,
    table,
    u8,
)
from iovisor.wire import Ethernet


class Reason(Reasons):
    BLOCKED = auto()


class {name}Config(Config):
    blocked: list[mac] = []


class {name}(Function):
    config: {name}Config
    inside: Port
    outside: Port

    blocked: Hash[mac, u8] = table(1024)
    passed: Counter = table(2)

    # The data path. CPython running it is what it means; `iovisor check` compiles the same lines.

    def ingress(self, pkt: Packet) -> Verdict:
        eth = pkt.parse(Ethernet)
        if self.blocked.get(eth.src) is not None:
            return drop(Reason.BLOCKED)
        self.passed.add(pkt.port, bytes=len(pkt))
        return forward(self.outside if pkt.port == self.inside else self.inside)

    # The control path: ordinary Python, called when the configuration changes; `old` is None at first.

    def configure(self, old: {name}Config | None, new: {name}Config) -> None:
        before = set(old.blocked) if old else set()
        for station in before - set(new.blocked):
            del self.blocked[station]
        for station in set(new.blocked) - before:
            self.blocked[station] = 1
'''

TEST = '''"""{title}, by what it does to frames, on every target this machine has."""
from {module} import {name}, Reason

from iovisor.language import Packet, drop, forward
from iovisor.testing import agree
from iovisor.testing.packets import ethernet, ipv4, udp

FRIEND, STRANGER = "02:00:00:00:00:01", "02:00:00:00:00:02"


def frame(src: str) -> bytes:
    return bytes(ethernet(src=src, dst="02:00:00:00:00:ff") / ipv4(src="10.0.0.1", dst="10.0.0.2")
                 / udp(src=1000, dst=53) / b"query")


def test_passes_from_one_port_to_the_other() -> None:
    function = {name}()
    assert function.run(Packet(frame(FRIEND), port=function.inside)) == forward(function.outside)
    assert function.run(Packet(frame(FRIEND), port=function.outside)) == forward(function.inside)
    assert function.passed[function.inside].packets == 1


def test_drops_what_is_blocked() -> None:
    function = {name}(blocked=[STRANGER])
    assert function.run(Packet(frame(STRANGER), port=function.inside)) == drop(Reason.BLOCKED)
    function.reconfigure(blocked=[])
    assert function.run(Packet(frame(STRANGER), port=function.inside)) == forward(function.outside)


def test_every_target_agrees_with_python() -> None:
    frames = [frame(FRIEND), frame(STRANGER), b"not a frame   "]
    assert agree(lambda: {name}(blocked=[STRANGER]), [(one, port) for one in frames for port in (0, 1)]) == 6
'''


@click.command("new", short_help="Write a function and its test, to begin with.")
@click.argument("name")
def command(name: str) -> None:
    """Write NAME.py, a small function that works, and test_NAME.py, its test. NAME may begin with a folder."""
    path = Path(name if name.endswith(".py") else f"{name}.py")
    module = path.stem
    if not module.isidentifier() or keyword.iskeyword(module):
        raise Unusable(f"{module!r} cannot name a Python module: letters, digits and _, as in `iovisor new my_switch`")
    if not path.parent.is_dir():
        raise Unusable(f"there is no folder {path.parent}")
    test = path.with_name(f"test_{module}.py")
    for there in (path, test):
        if there.exists():
            raise Unusable(f"{there} is there already, and is not overwritten")
    kind = "".join(part[:1].upper() + part[1:] for part in module.split("_")) or module
    words = {"title": kind, "name": kind, "module": module}
    path.write_text(FUNCTION.format(**words))
    test.write_text(TEST.format(**words))
    click.echo(f"{path}\n{test}\n\nnext:  iovisor check {path}\n       pytest {test}")
