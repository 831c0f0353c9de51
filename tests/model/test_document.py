"""Documents: short forms and the normal form, and problems that take several documents to see."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given

from iovisor.model import Network, Refused, Tenant, dump, hops, load, load_data, normal, over_quota, together
from iovisor.model.reading import read
from iovisor.model.references import Hop
from iovisor.model.writing import line as scalar
from tests.model.kinds import KINDS
from tests.model.strategies import networks

SHORT = """
version: 1
tenant: acme
network: shop
functions:
  lan: switch
  fw: {kind: acl, default: drop}
  mine: rtt.py:RttMeter
endpoints:
  web10: {netns: web10, mac: 02-AB-00-00-00-0A, address: 10.1.0.20/24, gateway: 10.1.0.1, labels: {tier: 010, on: yes}}
  web9: {netns: web9, interface: eth0, hook: tc, addresses: ["2001:DB8:0::0:9/64"], gateways: ["2001:db8::1"]}
  wan: {device: eno2, vlan: 10}
  dmz: {device: eno3, share: whole, hook: xdp}
links:
  - [lan:0x, web9]
  - [web10, lan]
  - [lan:007, fw, mine:1:0, wan]
  - [dmz, lan]
"""

LONG = """\
version: 1
tenant: acme
network: shop
functions:
  fw:
    kind: acl
    config: {default: drop}
  lan:
    kind: switch
  mine:
    kind: rtt.py:RttMeter
endpoints:
  dmz:
    device: eno3
    hook: xdp
  wan:
    device: eno2
    share: vlan
    vlan: 10
  web9:
    netns: web9
    addresses: [2001:db8::9/64]
    gateways: [2001:db8::1]
  web10:
    netns: web10
    mac: 02:ab:00:00:00:0a
    addresses: [10.1.0.20/24]
    gateways: [10.1.0.1]
    labels: {"on": "yes", tier: "010"}
links:
  - [dmz, lan]
  - [wan, mine:left:right, fw:outside:inside, lan:7]
  - [web9, lan]
  - [web10, lan]
"""


def one(text: str, file: str = "x.yaml") -> Any:
    document, = load(text, file, KINDS)
    return document.content


def test_the_normal_form() -> None:
    content = one(SHORT.replace("lan:0x", "lan"))
    assert dump(content) == LONG
    assert dump(one(LONG)) == LONG
    assert hops(content.links[1]) == [Hop("wan"), Hop("mine", "left", "right"), Hop("fw", "outside", "inside"),
                                      Hop("lan", "7")]


@given(networks())
def test_the_normal_form_is_read_as_itself(data: Any) -> None:
    content = load_data(data, KINDS).content
    once = normal(content)
    assert isinstance(content, Network) and json.loads(json.dumps(once)) == once
    assert load_data(once, KINDS).content == content
    text = dump(content)
    assert one(text) == content and dump(one(text)) == text
    assert one(json.dumps(data), "x.json") == content and one(json.dumps(once, indent="\t")) == content
    assert all(text.splitlines().count(line) for line in ("version: 1", "network: net"))


def with_text_for_keys(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): with_text_for_keys(value) for key, value in data.items()}
    return [with_text_for_keys(item) for item in data] if isinstance(data, list) else data


@given(networks())
def test_readers_of_yaml_1_1_see_the_same(data: Any) -> None:
    content = load_data(data, KINDS).content
    assert with_text_for_keys(yaml.safe_load(dump(content))) == normal(content)


@pytest.mark.parametrize("text", [
    "on", "No", "010", "0o10", "22:22", "10:20:30:40:50:59", "02:00:00:00:00:01", "1_000", "2001-12-14", ".inf",
    ".5", "1e3", "0x1f", "0b1", "~", "null", "=", "<<", "- a", "a: b", "a #b", "#", "", " a", "a ", "a,b", "[a]",
    "*a", "&a", "!a", "'", '"', "\\", "\n", "\t", "\x07", "\x85", "\u2028", "\ufeff", "é", "😀", "---", "...", "a:",
    ":a", "?", "@a", "`a", "%a", "|", ">", "+1", "-1", "1.", "1.0", "1.2.3", "1:2:3.4", "y", "10.1.0.1", "::1",
    "a/b", "2001-12-14 10:00:00", "0_7"])
def test_any_text_stays_what_it_is(text: str) -> None:
    written = f"x: [{scalar(text)}, {{k: {scalar(text)}}}]"
    for found in (yaml.safe_load(written), *(node.plain() for node in read(written, "x"))):
        assert found == {"x": [text, {"k": text}]}


@given(networks())
def test_the_other_direction_is_the_same_path(data: Any) -> None:
    def turned(index: int, member: str, length: int) -> str:
        name, *ports = member.split(":")
        if 0 < index < length - 1:
            return ":".join([name, *(ports[::-1] or ["1", "0"])])
        return member
    other = data | {"links": [[turned(n, member, len(path)) for n, member in enumerate(path)][::-1]
                              for path in reversed(data["links"])]}
    assert load_data(other, KINDS).content == load_data(data, KINDS).content


def test_warnings_do_not_refuse() -> None:
    text = SHORT.replace("  - [lan:0x, web9]\n", "").replace("{device: eno3, share: whole, hook: xdp}", "")
    document, = load(text, "x.yaml", KINDS)
    assert [str(warning).splitlines()[0] for warning in document.warnings] == [
        "x.yaml:11:3: warning: endpoints.web9: nothing is linked to web9",
        "x.yaml:13:3: warning: endpoints.dmz: dmz is attached to nothing"]


def test_a_later_problem_can_point_into_the_document() -> None:
    document, = load(SHORT.replace("lan:0x", "lan"), "x.yaml", KINDS)
    found = document.problem(("functions", "fw", "config", "default"), "this is not so")
    assert str(found) == "x.yaml:7:28: functions.fw.config.default: this is not so"
    assert found.pointer == "/functions/fw/config/default"


def test_data_has_no_places() -> None:
    with pytest.raises(Refused) as caught:
        load_data({"version": 1, "tenant": "acme", "network": "x", "functions": {"a": "swich"}}, KINDS)
    assert str(caught.value) == "request: functions.a.kind: there is no kind 'swich'\n    did you mean switch?"


def test_a_flood_of_mistakes_is_cut_short() -> None:
    members = "".join(f"- [web{n}, lan]\n" for n in range(20_000))
    with pytest.raises(Refused) as caught:
        load(f"version: 1\ntenant: a\nnetwork: b\nfunctions: {{lan: switch}}\nlinks:\n{members}", "x.yaml", KINDS)
    assert len(caught.value.problems) == 501
    assert str(caught.value.problems[0]).startswith("x.yaml:1:1: there are more than 500 mistakes in it\n")


TENANT = """
version: 1
tenant: acme
quota: {networks: 1, functions: 2, endpoints: 1, links: 0, tables: 65536 kB, punts: 100}
"""


def test_a_tenant() -> None:
    tenant = one(TENANT)
    assert isinstance(tenant, Tenant)
    assert normal(tenant) == {"version": 1, "tenant": "acme", "quota": {
        "networks": 1, "functions": 2, "endpoints": 1, "links": 0, "tables": "64000KiB", "punts": 100}}
    assert one(dump(tenant)) == tenant
    assert one("version: 1\ntenant: acme\n").quota.networks is None


def network(name: str, *namespaces: str, tenant: str = "acme") -> str:
    endpoints = ", ".join(f"e{n}: {{netns: {space}}}" for n, space in enumerate(namespaces))
    links = "".join(f"\n- [e{n}, lan]" for n in range(len(namespaces)))
    return f"---\nversion: 1\ntenant: {tenant}\nnetwork: {name}\nfunctions: {{lan: switch}}\n" \
           f"endpoints: {{{endpoints}}}\nlinks:{links}\n"


def said(*texts: str, standing: Any = ()) -> list[str]:
    documents = [document for n, text in enumerate(texts) for document in load(text, f"{n}.yaml", KINDS)]
    return [str(problem).partition("\n")[0] for problem in together(documents, standing)]


def test_documents_together() -> None:
    assert said(network("a", "x"), network("b", "y") + network("a", "z", tenant="beta")) == []
    assert said(network("a", "x"), network("a", "y")) == ["1.yaml:4:10: network: acme/a is in 0.yaml:2 already"]
    assert said(TENANT, TENANT) == ["1.yaml:3:9: tenant: acme is in 0.yaml:2 already"]
    assert said(network("a", "x") + network("b", "x", tenant="beta")) == [
        "0.yaml:14:25: endpoints.e0.netns: netns x eth0 is taken: acme/a has it, in 0.yaml:6"]


def test_quotas_count_what_stands() -> None:
    standing = [one(network("old", "o"))]
    assert said(TENANT, network("a", "x"), standing=standing) == [
        "0.yaml:4:19: quota.networks: acme has 2 networks, and may have 1",
        "0.yaml:4:47: quota.endpoints: acme has 2 endpoints, and may have 1",
        "0.yaml:4:57: quota.links: acme has 2 links, and may have 0"]
    assert said(TENANT, network("old"), standing=standing) == []
    assert said(TENANT, network("a", tenant="beta")) == []
    assert over_quota(one(TENANT), [one(network("a", "x", "y"))]) == [("endpoints", 2, 1), ("links", 2, 0)]


def test_what_stands_holds_its_devices() -> None:
    standing = [one(network("old", "o"))]
    assert said(network("a", "o"), standing=standing) == [
        "0.yaml:6:25: endpoints.e0.netns: netns o eth0 is taken: acme/old has it"]
    assert said(network("old", "o"), standing=standing) == []


@pytest.mark.parametrize("hook, warned", [("xdp", False), ("xdp-generic", False), ("xdp-native", True), ("tc", False)])
def test_a_hook_that_costs_is_warned_of(hook: str, warned: bool) -> None:
    text = SHORT.replace("lan:0x", "lan").replace("eth0, hook: tc,", f"eth0, hook: {hook},")
    document, = load(text, "x.yaml", KINDS)
    assert [str(warning).partition(" takes ")[0] for warning in document.warnings] == [
        "x.yaml:11:46: warning: endpoints.web9.hook: XDP in the driver of a cable"] * warned
