"""The API: what goes wrong is told as what it is, and nobody learns what is not theirs to know."""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iovisor.control import access
from iovisor.control.access import Principal
from iovisor.control.api import application
from iovisor.control.platform import Platform
from iovisor.control.problems import Wrong
from tests.control.asking import ROOT, Answer, ask
from tests.control.conftest import Platforms, apply
from tests.control.test_platform import pair
from tests.fabric.hosts import Place

pytestmark = pytest.mark.root
Places = Callable[[int], Place]
METHODS = ("get", "post", "put", "delete")
VALUES = {"network": "prod", "endpoint": "way", "function": "lan", "action": "flush", "name": "kept", "number": "1",
          "id": "0" * 12}
#: Routes that a viewer may use though they are no GET: nothing changes by them.
LOOKING = {("post", "/v1/tenants/{tenant}/networks/{network}/trace")}
#: Routes within a tenant that are an admin's.
ADMINS = {("put", "/v1/tenants/{tenant}"), ("delete", "/v1/tenants/{tenant}")}
BODIES: dict[str, Any] = {"networks_clone": {"tenant": "acme", "network": "copy"},
                          "networks_snapshot": {"name": "kept"}, "networks_put": {"document": {}},
                          "inspection_trace": {"at": "one", "frame": "00" * 60}, "tenants_put": {}}


@pytest.fixture
def served(place: Places, platform: Platforms) -> Iterator[tuple[FastAPI, Platform, Place]]:
    """An application with two tenants, each with one network, and their tokens."""
    at = place(4)
    here = platform(at)
    apply(here, pair("acme", 0, 1))
    apply(here, pair("globex", 2, 3))
    yield application(here), here, at


def tokens(here: Platform) -> dict[str, str]:
    """Of every role of every tenant, by `role tenant`."""
    found = {f"{role} {tenant}": access.issue(here.records, "x", role, tenant)[0]
             for role in ("owner", "viewer") for tenant in ("acme", "globex")}
    return {**found, "admin": access.issue(here.records, "x", "admin", "")[0], "": "", "stranger": "iov_nobody"}


def operations(app: FastAPI) -> list[tuple[str, str, str]]:
    """Method, path and name of every operation there is."""
    return [(method, path, one["operationId"]) for path, verbs in app.openapi()["paths"].items()
            for method, one in verbs.items() if method in METHODS]


def asked(app: FastAPI, method: str, path: str, name: str, tenant: str, token: str) -> Answer:
    filled = re.sub(r"{(\w+)}", lambda m: tenant if m[1] == "tenant" else VALUES[m[1]], path)
    return ask(app, method.upper(), filled, BODIES.get(name, {} if method == "post" else None), token)


def test_every_route_and_every_role(served: tuple[FastAPI, Platform, Place]) -> None:
    app, here, _ = served
    who = tokens(here)
    every = sorted(operations(app), key=lambda one: (one[0] == "delete", len(one[1]) if one[0] != "delete" else 0))
    assert len(every) > 35
    for method, path, name in every:
        if path == "/health":
            continue
        for nobody in ("", "stranger"):
            assert asked(app, method, path, name, "acme", who[nobody]).status == 401, (method, path)
        if "{tenant}" not in path:
            continue
        for role in ("owner globex", "viewer globex"):
            answer, absent = (asked(app, method, path, name, tenant, who[role]) for tenant in ("acme", "nope"))
            assert answer.status == absent.status == 404, (method, path, role)
            assert answer.raw.replace(b"acme", b"nope") == absent.raw, (method, path, role)
        answer = asked(app, method, path, name, "acme", who["viewer acme"])
        looks = (method == "get" and not path.endswith("/capture")) or (method, path) in LOOKING
        assert (answer.status == 403) is not looks and answer.status < 500, (method, path, answer)
    assert [head.key for head in here.records.heads()] == ["acme/prod", "globex/prod"]
    for method, path, name in every:
        if "{tenant}" in path:
            answer = asked(app, method, path, name, "acme", who["owner acme"])
            assert (answer.status == 403) is ((method, path) in ADMINS) and answer.status < 500, (method, path, answer)
    for method, path, name in every:
        answer = asked(app, method, path, name, "globex", who["admin"])
        assert answer.status not in (401, 403) and answer.status < 500, (method, path, answer)


def test_lists_tell_only_what_is_yours(served: tuple[FastAPI, Platform, Place]) -> None:
    app, here, _ = served
    who = tokens(here)
    for path in ("/v1/networks", "/v1/tenants", "/v1/tokens", "/v1/events", "/v1/whoami"):
        for role in ("owner acme", "viewer acme"):
            assert b"globex" not in ask(app, "GET", path, token=who[role]).raw, (path, role)
    assert b"globex" in ask(app, "GET", "/v1/networks", token=who["admin"]).raw
    text = {"text": pair("globex", 2, 3)}
    for what in ("validate", "plan", "apply"):
        stranger = ask(app, "POST", f"/v1/documents/{what}", text, who["owner acme"])
        absent = ask(app, "POST", f"/v1/documents/{what}", {"text": pair("nobody", 2, 3)}, who["owner acme"])
        assert stranger.status == absent.status == 404
        assert stranger.raw.replace(b"globex", b"nobody") == absent.raw
        assert ask(app, "POST", f"/v1/documents/{what}", text, who["viewer globex"]).status == 403
    taken = ask(app, "POST", "/v1/documents/apply", {"text": pair("acme", 2, 3)}, who["owner acme"])
    assert taken.status == 422 and b"globex" not in taken.raw
    clone = {"tenant": "globex", "network": "mine"}
    assert ask(app, "POST", "/v1/tenants/acme/networks/prod/clone", clone, who["owner acme"]).status == 404
    for role, tenant, status in (("admin", "", 403), ("viewer", "globex", 404), ("viewer", "acme", 200)):
        body = {"name": "a", "role": role, "tenant": tenant}
        assert ask(app, "POST", "/v1/tokens", body, who["owner acme"]).status == status


def test_tokens(served: tuple[FastAPI, Platform, Place]) -> None:
    app, here, _ = served
    made = ask(app, "POST", "/v1/tokens", {"name": "ci", "role": "owner", "tenant": "acme"}, peer=ROOT).body
    assert re.fullmatch(r"iov_[\w-]{43}", made["token"])
    assert made["token"].encode() not in (here.state / "iovisor.db").read_bytes()
    assert ask(app, "GET", "/v1/whoami", token=made["token"]).body == {"name": "ci", "role": "owner", "tenant": "acme"}
    assert ask(app, "DELETE", f"/v1/tokens/{made['id']}", token=made["token"]).status == 200
    assert ask(app, "GET", "/v1/whoami", token=made["token"]).status == 401
    assert ask(app, "GET", "/v1/whoami", peer=ROOT).body["role"] == "admin"
    assert ask(app, "GET", "/v1/whoami", peer=(1, 65534, 65534)).status == 401
    assert ask(app, "GET", "/v1/whoami", token=made["token"], peer=ROOT).status == 401


def test_problems_name_the_place(served: tuple[FastAPI, Platform, Place]) -> None:
    app, _, _ = served
    broken = pair().replace("switch, ageing: 5m", "switch, ageing: soon").replace("[two, lan]", "[two, wan]")
    answer = ask(app, "POST", "/v1/documents/apply", {"text": broken, "file": "shop.yaml"}, peer=ROOT)
    assert (answer.status, answer.kind) == (422, "application/problem+json")
    assert answer.body["type"] == "urn:iovisor:refused"
    assert [(one["file"], one["line"], one["pointer"]) for one in answer.body["problems"] if not one["warning"]] == [
        ("shop.yaml", 6, "/functions/lan/config/ageing"), ("shop.yaml", 12, "/links/1/1")]
    answer = ask(app, "POST", "/v1/documents/apply", {"text": 5, "more": 1}, peer=ROOT)
    assert answer.status == 422
    assert {one["pointer"] for one in answer.body["problems"]} == {"/text", "/more"}
    for method, path, body, status in (
            ("GET", "/v1/nothing", None, 404), ("PATCH", "/v1/tenants", None, 405),
            ("GET", "/v1/tenants/acme/networks/none", None, 404), ("GET", "/v1/tenants/none/networks/x", None, 404),
            ("POST", "/v1/tenants/acme/networks/prod/confirm", {}, 409),
            ("POST", "/v1/tenants/acme/networks/prod/rollback", {"revision": 9}, 404),
            ("POST", "/v1/tenants/acme/networks/prod/rollback", {}, 409),
            ("DELETE", "/v1/tenants/acme", None, 409),
            ("POST", "/v1/tenants/acme/networks/prod/functions/lan/actions/fly", {}, 404),
            ("POST", "/v1/tenants/acme/networks/prod/functions/lan/actions/flush", {"arguments": {"x": 1}}, 422),
            ("POST", "/v1/tenants/acme/networks/prod/trace", {"at": "one", "frame": "xyz"}, 422),
            ("PUT", "/v1/tenants/acme/networks/prod", {"document": {"tenant": "globex"}}, 422)):
        answer = ask(app, method, path, body, peer=ROOT)
        assert (answer.status, answer.kind) == (status, "application/problem+json"), (path, answer)
        assert answer.body["status"] == status and answer.body["detail"]
    assert ask(app, "POST", "/v1/documents/apply", raw=b"[" * 100_000, peer=ROOT).status in (400, 422)
    assert ask(app, "POST", "/v1/documents/apply", raw=b" " * (9 << 20), peer=ROOT).status == 413


def test_own_code_is_brought_by_who_may_change_a_network(served: tuple[FastAPI, Platform, Place]) -> None:
    app, here, _ = served
    who = tokens(here)
    text = pair().replace("{kind: switch, ageing: 5m}", "{kind: 'hub.py:Hub'}")
    source = "from iovisor.language import *\nclass Hub(Function):\n    ports: Ports = ports(4)\n" \
             "    def ingress(self, pkt: Packet) -> Verdict:\n        return FLOOD\n"
    missing = ask(app, "POST", "/v1/documents/plan", {"text": text}, peer=ROOT)
    assert missing.body["type"] == "urn:iovisor:sources-missing" and missing.body["files"] == ["hub.py"]
    body = {"text": text, "sources": {"hub.py": source}}
    assert ask(app, "POST", "/v1/documents/plan", body, who["viewer acme"]).status == 403
    assert not list((here.state / "functions").iterdir())
    evil = {"text": text, "sources": {"hub.py": "raise SystemExit(3)"}}
    answer = ask(app, "POST", "/v1/documents/plan", evil, who["owner acme"])
    assert answer.status == 422 and "SystemExit: 3" in answer.body["detail"]
    for role in ("owner acme", "admin"):
        answer = ask(app, "POST", "/v1/documents/plan", body, who[role])
        assert answer.body[0]["changes"], role
    large = {"text": text, "sources": {"hub.py": "é" * 300_000}}
    answer = ask(app, "POST", "/v1/documents/plan", large, who["owner acme"])
    assert answer.status == 422 and "this file has 600000 bytes" in answer.body["detail"]


def test_quotas(served: tuple[FastAPI, Platform, Place]) -> None:
    app, here, _ = served
    assert ask(app, "PUT", "/v1/tenants/acme", {"quota": {"functions": 1, "networks": 1}}, peer=ROOT).status == 200
    more = pair().replace("functions:", "functions:\n  wan: switch")
    answer = ask(app, "POST", "/v1/documents/apply", {"text": more}, peer=ROOT)
    assert answer.status == 422 and "2 functions, and may have 1" in answer.body["detail"]
    answer = ask(app, "POST", "/v1/tenants/acme/networks/prod/clone", {"tenant": "acme", "network": "b"}, peer=ROOT)
    assert answer.status == 422 and "2 networks" in answer.body["detail"]
    answer = ask(app, "PUT", "/v1/tenants/globex", {"quota": {"endpoints": 1}}, peer=ROOT)
    assert answer.status == 422 and "2 endpoints already" in answer.body["detail"]
    assert sorted(here.hosted) == ["acme/prod", "globex/prod"]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=8)


def test_whatever_is_sent_the_answer_is_one_of_ours(served: tuple[FastAPI, Platform, Place], nightly: bool) -> None:
    """Requests made of the description: never a 5xx, never anything but JSON; and nothing changes."""
    app, here, _ = served
    description = app.openapi()
    every = [(method, path, one) for path, verbs in description["paths"].items() for method, one in verbs.items()
             if method in METHODS and method != "delete"
             and not path.endswith(("/stream", "/events", "/watch", "/capture", "/flows"))]

    def fields(one: Any) -> list[str]:
        body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        name = body.get("$ref", "").rpartition("/")[2]
        return list(description["components"]["schemas"].get(name, {}).get("properties", {}))

    @settings(max_examples=3000 if nightly else 150, deadline=None, derandomize=not nightly,
              suppress_health_check=list(HealthCheck))
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        method, path, one = data.draw(st.sampled_from(every))
        names = st.sampled_from(["acme", "prod", "lan", "one", "flush", "..", "%00", "é", "x" * 300]) | st.text(
            st.characters(codec="utf-8", exclude_characters="/?#"), min_size=1, max_size=9)
        filled = re.sub(r"{(\w+)}", lambda m: data.draw(names), path)
        known = fields(one)
        body = data.draw(st.dictionaries(st.sampled_from(known), JSON, max_size=4) if known else JSON)
        raw = data.draw(st.none() | st.binary(max_size=20)) if data.draw(st.integers(0, 9)) == 0 else None
        answer = ask(app, method.upper(), filled, body, peer=ROOT, raw=raw)
        assert answer.status < 500, (method, filled, body, answer)
        assert "json" in answer.kind
    fuzz()
    assert {"acme/prod", "globex/prod"} <= set(here.hosted)


def test_streams(served: tuple[FastAPI, Platform, Place]) -> None:
    app, _, _ = served
    answer = ask(app, "GET", "/v1/events", peer=ROOT)
    assert answer.kind.startswith("text/event-stream") and answer.raw.startswith(b": listening\n\n")
    answer = ask(app, "GET", "/v1/tenants/acme/networks/prod/counters/stream", peer=ROOT)
    assert answer.raw.startswith(b"event: counters\ndata: {") and b'"lan:0"' in answer.raw


def test_the_page_needs_nothing_from_elsewhere(served: tuple[FastAPI, Platform, Place]) -> None:
    app, _, _ = served
    page = ask(app, "GET", "/docs").raw.decode()
    assert not re.findall(r"(?:src|href)=\"(?!/)", page) and "http" not in page.replace("/openapi.json", "")
    names = [name for *_, name in operations(app)]
    assert len(names) == len(set(names))


def test_who_sees_what() -> None:
    viewer = Principal("v", "viewer", "acme")
    viewer.demand("acme")
    for tenant, write, status in (("acme", True, 403), ("globex", False, 404), ("globex", True, 404)):
        with pytest.raises(Wrong) as caught:
            viewer.demand(tenant, write)
        assert caught.value.status == status
