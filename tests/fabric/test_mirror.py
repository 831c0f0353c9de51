"""A kernel table mirrored into a router: what is there, what comes, changes and goes."""
from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from iovisor.fabric.mirror import Mirror
from iovisor.functions.router import Router
from iovisor.kernel import NetworkNamespace
from iovisor.language import ipv4_address, ipv6_address
from tests.waiting import until, until_true

pytestmark = pytest.mark.root
HERE, THERE, SIX = ipv4_address("10.1.0.2"), ipv4_address("10.1.1.2"), ipv6_address("2001:db8::2")


def ip(namespace: NetworkNamespace, words: str) -> None:
    namespace.execute(["ip", *words.split()], check=True, capture_output=True)


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    with NetworkNamespace.create() as made:
        ip(made, "link add one index 30001 type veth peer name two index 30002")
        for number, name in enumerate(("one", "two")):
            ip(made, f"addr add 10.1.{number}.1/24 dev {name}")
            ip(made, f"link set {name} up")
        ip(made, "addr add 2001:db8::1/64 dev one nodad")
        yield made



def ways(router: Router) -> dict[str, object]:
    return {str(place): router.fed[0, place].hops or router.fed[0, place].kind.name
            for table, place in router.fed if table == 0}


def test_a_table_is_followed(namespace: NetworkNamespace) -> None:
    ip(namespace, "route add 192.0.2.0/24 via 10.1.0.2")
    router = Router()
    with Mirror(router, {30001: 4, 30002: 5}, namespace) as mirror:
        assert ways(router) == {"192.0.2.0/24": ((HERE, 4, 1),)}

        def becomes(want: dict[str, object]) -> None:
            assert until(lambda: (mirror.read(), ways(router) == want)[1]), ways(router)

        ip(namespace, "route add 198.51.100.0/24 nexthop via 10.1.0.2 weight 2 nexthop via 10.1.1.2")
        ip(namespace, "route add blackhole 203.0.113.0/24")
        ip(namespace, "-6 route add 2001:db8:5::/48 via 2001:db8::2")
        both = tuple(sorted([(HERE, 4, 2), (THERE, 5, 1)]))
        rest: dict[str, object] = {"198.51.100.0/24": both, "203.0.113.0/24": "BLACKHOLE",
                                   "2001:db8:5::/48": ((SIX, 4, 1),)}
        becomes({"192.0.2.0/24": ((HERE, 4, 1),), **rest})
        ip(namespace, "route replace 192.0.2.0/24 via 10.1.1.2")
        becomes({"192.0.2.0/24": ((THERE, 5, 1),), **rest})
        ip(namespace, "route del 192.0.2.0/24")
        becomes(rest)
        ip(namespace, "route flush table main root 198.51.100.0/24")
        mirror.refresh()
        assert "198.51.100.0/24" not in ways(router)
    assert router.v4.routes.get(ipv4_address("203.0.113.1")) is not None


def test_it_is_followed_while_others_run(namespace: NetworkNamespace) -> None:
    router = Router()

    async def follow() -> bool:
        with Mirror(router, {30001: 0}, namespace) as mirror:
            serving = asyncio.create_task(mirror.serve())
            await asyncio.to_thread(ip, namespace, "route add 192.0.2.0/24 via 10.1.0.2")
            found = await until_true(lambda: "192.0.2.0/24" in ways(router))
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            return found

    assert asyncio.run(follow())
