"""The schema for editors takes what `load` takes, and refuses what a schema can see."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from iovisor.control.kinds import Kinds
from iovisor.model.editors import schema
from iovisor.model.reading import read
from tests.model.kinds import KINDS
from tests.model.strategies import networks

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
DECLARED = Draft202012Validator(schema(KINDS))


@pytest.fixture(scope="module")
def catalogue() -> Any:
    found = schema(Kinds())
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path: Path, catalogue: Any) -> None:
    for document in read(path.read_bytes(), path.name):
        assert not list(catalogue.iter_errors(document.plain()))


@given(networks())
def test_every_form(data: Any) -> None:
    assert not list(DECLARED.iter_errors(data))


NETWORK: dict[str, Any] = {"version": 1, "tenant": "acme", "network": "shop"}


@pytest.mark.parametrize("data", [
    {"functions": {"a": "switch", "b": {"kind": "acl", "default": "drop"}, "c": {"kind": "acl", "config": {}},
                   "d": "rtt.py:RttMeter", "e": {"kind": "rtt.py:RttMeter", "anything": 1}}},
    {"endpoints": {"a": None, "b": {}, "c": {"address": "10.0.0.1/8"}, "d": {"addresses": "::1/64", "gateway": []}}},
    {"functions": None, "endpoints": None, "links": None, "labels": {"a": 1, "b": True}},
])
def test_what_is_right(data: Any) -> None:
    assert not list(DECLARED.iter_errors(NETWORK | data))


@pytest.mark.parametrize("data", [
    {"version": 2}, {"tenant": "a b"}, {"functoins": {}}, {"functions": {"a": {}}}, {"functions": {"a": "swich"}},
    {"functions": {"a": {"kind": "acl", "defautl": "drop"}}}, {"functions": {"a": {"kind": "meter"}}},
    {"functions": {"a": {"kind": "acl", "config": {"x": 1}}}}, {"functions": {"a": {"kind": "acl", "default": 1}}},
    {"endpoints": {"a": {"mtu": "big"}}}, {"endpoints": {"a": {"mac": "x"}}}, {"endpoints": {"a": {"adress": "x"}}},
    {"endpoints": {"a": {"address": "10.0.0.1"}}}, {"links": [["a"]]}, {"links": ["a"]}, {"labels": {"a": []}},
])
def test_what_is_wrong(data: Any) -> None:
    assert list(DECLARED.iter_errors(NETWORK | data))


def test_tenants() -> None:
    tenant = {"version": 1, "tenant": "acme"}
    assert not list(DECLARED.iter_errors(tenant | {"quota": {"networks": 3, "tables": "64MiB"}}))
    assert list(DECLARED.iter_errors(tenant | {"quota": {"network": 3}})) and list(DECLARED.iter_errors({"version": 1}))


def test_everything_is_described() -> None:
    found = schema(KINDS)["$defs"]
    for part in ("Network", "Tenant", "Endpoint", "Quota"):
        for name, field in found[part]["properties"].items():
            assert field.get("description") or "$ref" in str(field), f"{part}.{name}"
