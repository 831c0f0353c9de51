"""Configuration: values as people write them, every mistake named, and the schema that says the same."""
from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any, ClassVar

import pytest

from iovisor.language import (
    SECOND,
    Config,
    ConfigError,
    DeclarationError,
    Prefix,
    ipv4,
    ipv6,
    mac,
    prefix,
    time,
    u8,
    u16,
)


class Mode(IntEnum):
    ACCESS = 1
    TRUNK = 2


class Policy(Enum):
    STRICT = "strict"
    LOOSE = "loose"


class Neighbour(Config):
    address: ipv4
    hardware: mac = 0


class Router(Config):
    """A router, for these tests."""

    LIMIT: ClassVar[int] = 4
    router: mac
    ageing: time = 300 * SECOND
    gateway: ipv6 = 0
    vlan: u16 = 1
    mode: Mode = Mode.ACCESS
    policy: Policy = Policy.STRICT
    log: bool = False
    name: str = "r"
    retries: int = 3
    routes: list[Prefix] = []
    ports: dict[u8, list[u16]] = {}
    neighbours: list[Neighbour] = []
    first: Neighbour | None = None
    peer: ipv4 | str | None = None

    def validate(self) -> None:
        if len(self.routes) > self.LIMIT:
            raise ConfigError("routes", f"at most {self.LIMIT}")


def test_values_come_as_people_write_them() -> None:
    written: dict[str, Any] = {
        "router": "02:00:00:00:00:01", "ageing": "1.5m", "gateway": "2001:db8::1", "mode": "trunk", "policy": "LOOSE",
        "routes": ["10.0.0.0/8", prefix("2001:db8::/32")], "ports": {1: [2, 3]}, "log": True,
        "neighbours": [{"address": "10.0.0.1"}, Neighbour(address=2)], "first": {"address": 3}, "peer": "10.0.0.9"}
    router = Router(**written)
    assert (router.router, router.ageing, router.gateway) == (0x020000000001, 90 * SECOND, 0x20010db8 << 96 | 1)
    assert (router.mode, router.policy, router.vlan, router.log) == (Mode.TRUNK, Policy.LOOSE, 1, True)
    assert router.routes == [Prefix(0x0a000000, 8), Prefix(0x20010db8 << 96, 32, 128)]
    assert router.ports == {1: [2, 3]} and router.peer == 0x0a000009
    assert [n.address for n in router.neighbours] == [0x0a000001, 2]
    assert router.first == Neighbour(address=3) and Router(router=1, first=None).first is None
    assert Router(router=1).replaced(mode=2).mode is Mode.TRUNK
    assert Router(router=1, peer="dynamic").peer == "dynamic"


def test_what_was_written_as_an_integer_stays_one() -> None:
    assert Router(router=5).router == 5


@pytest.mark.parametrize(("values", "message"), [
    ({}, "router: Router needs a value"),
    ({"router": 1, "colour": 2}, "colour: Router has no such field; it has router, ageing,"),
    ({"router": "02-00"}, "router: '02-00' is not a MAC address like 02:00:00:00:00:01"),
    ({"router": 1, "ageing": "soon"}, "ageing: 'soon' is not a duration like 300s, 5m or 2h"),
    ({"router": 1, "gateway": "10.0.0.1"}, "gateway: "),
    ({"router": 1, "vlan": 65536}, "vlan: 65536 does not fit in 16 bits"),
    ({"router": 1, "vlan": -1}, "vlan: -1 does not fit in 16 bits"),
    ({"router": 1, "vlan": "1"}, "vlan: expected an integer, not '1'"),
    ({"router": 1, "vlan": True}, "vlan: expected an integer, not True"),
    ({"router": None}, "router: expected mac, not None"),
    ({"router": 1, "log": 1}, "log: expected bool, not 1"),
    ({"router": 1, "retries": True}, "retries: expected int, not True"),
    ({"router": 1, "name": 1}, "name: expected str, not 1"),
    ({"router": 1, "mode": "hybrid"}, "mode: expected one of access, trunk, not 'hybrid'"),
    ({"router": 1, "routes": "10.0.0.0/8"}, "routes: expected a list, not '10.0.0.0/8'"),
    ({"router": 1, "routes": ["10.0.0.0/8", "10.0.0.1/8"]}, "routes[1]: "),
    ({"router": 1, "routes": ["0.0.0.0/0"] * 5}, "routes: at most 4"),
    ({"router": 1, "ports": {1: [2, 1 << 16]}}, "ports.1[1]: 65536 does not fit in 16 bits"),
    ({"router": 1, "ports": {256: []}}, "ports.256: 256 does not fit in 8 bits"),
    ({"router": 1, "ports": []}, "ports: expected a mapping, not []"),
    ({"router": 1, "neighbours": [{"address": "10.0.0.1", "hardware": "x"}]}, "neighbours[0].hardware: 'x' is not"),
    ({"router": 1, "neighbours": [{}]}, "neighbours[0].address: Neighbour needs a value"),
    ({"router": 1, "first": 7}, "first: expected Neighbour, not 7"),
])
def test_every_mistake_names_its_field(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Router(**values)
    assert str(caught.value).startswith(message)
    assert str(caught.value).startswith(f"{caught.value.path}: ")


def test_a_configuration_is_frozen_and_copies_are_changed() -> None:
    router = Router(router=1)
    with pytest.raises(AttributeError, match=r"Router is frozen: make a changed copy with `replaced\(vlan=…\)`"):
        router.vlan = 2  # type: ignore[misc]
    changed = router.replaced(vlan=2, ageing="1s")
    assert (router.vlan, changed.vlan, changed.ageing, changed.router) == (1, 2, SECOND, 1)
    assert router == Router(router=1) != changed
    with pytest.raises(ConfigError):
        router.replaced(vlan=1 << 16)


def test_no_two_configurations_share_a_default_list() -> None:
    one, two = Router(router=1), Router(router=1)
    one.routes.append(prefix("10.0.0.0/8"))
    assert two.routes == [] == Router(router=1).routes


def test_a_default_is_held_to_its_type() -> None:
    class Wrong(Config):
        port: u8 = 256

    with pytest.raises(ConfigError, match="port: 256 does not fit in 8 bits"):
        Wrong()


def test_the_data_path_reads_integers_booleans_and_integer_enums() -> None:
    assert list(Router.layout.fields) == ["router", "ageing", "gateway", "vlan", "mode", "log"]
    record = Router(router=9, log=True, mode=Mode.TRUNK).record()
    assert (record.router, record.log, record.mode) == (9, 1, 2)  # type: ignore[attr-defined]


def test_inheritance() -> None:
    class Edge(Router):
        uplink: u8
        vlan: u16 = 7

    assert list(Edge.types)[-1] == "uplink"
    assert Edge(router=1, uplink=2).vlan == 7
    with pytest.raises(ConfigError, match="uplink: Edge needs a value"):
        Edge(router=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["types", "layout", "validate", "record", "replaced", "schema"])
def test_a_field_may_not_hide_what_a_configuration_is(name: str) -> None:
    with pytest.raises(DeclarationError, match=f"Hiding.{name}: this name belongs to the configuration itself"):
        type("Hiding", (Config,), {"__annotations__": {name: u8}, "__module__": __name__})


def test_what_cannot_be_configured() -> None:
    kind = type("Odd", (Config,), {"__annotations__": {"f": "tuple[int, ...] | None", "g": "ClassVar[int]"},
                                   "__module__": __name__})
    assert list(kind.types) == ["f"]  # type: ignore[attr-defined]


def test_the_schema() -> None:
    schema = Router.schema()
    properties = schema["properties"]
    assert (schema["title"], schema["description"]) == ("Router", "A router, for these tests.")
    assert (schema["required"], schema["additionalProperties"]) == (["router"], False)
    assert list(properties) == list(Router.types)
    assert properties["vlan"] == {"type": "integer", "minimum": 0, "maximum": 65535, "default": 1}
    assert properties["router"]["anyOf"][1] == {"type": "string", "format": "mac"}
    assert properties["log"] == {"type": "boolean", "default": False}
    assert properties["mode"]["enum"] == ["access", "trunk"]
    assert properties["routes"] == {"type": "array", "items": {"type": "string", "format": "prefix"}}
    assert properties["neighbours"]["items"]["required"] == ["address"]
    assert properties["first"]["anyOf"][1] == {"type": "null"}
    assert properties["ports"]["additionalProperties"]["type"] == "array"
