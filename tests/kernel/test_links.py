"""Attaching programs to interfaces: what packets then meet."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator

import pytest

from iovisor.kernel import (
    AttachType,
    BpfError,
    Direction,
    Link,
    Map,
    MapKind,
    MapSpec,
    Netlink,
    NetworkNamespace,
    Program,
    ProgramKind,
    ProgramSpec,
    XdpMode,
    attached,
    interfaces,
    xdp_context,
)
from iovisor.kernel.assembler import R0, R1, add_atomically, assemble, leave, load, map_value, move, store
from tests.waiting import until

from .conftest import LOCAL, REMOTE

pytestmark = pytest.mark.root

NEXT, DROP = -1, 2


def verdict(value: int, name: str = "verdict", kind: ProgramKind = ProgramKind.SCHED_CLS) -> Program:
    return Program.load(ProgramSpec(name, kind, assemble(leave(value))))


def arrives(source: NetworkNamespace, target: NetworkNamespace, address: str) -> bool:
    """Does a datagram sent in `source` to `address` arrive in `target`?"""
    with target.entered():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with source.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((address, 0))
        receiver.settimeout(0.15)
        sender.sendto(b"hello", receiver.getsockname())
        try:
            return receiver.recv(10) == b"hello"
        except TimeoutError:
            return False


def number(counter: Map) -> int:
    return int.from_bytes(counter.lookup(bytes(4)) or b"", sys.byteorder)


@pytest.mark.usefixtures("wire")
def test_ingress_decides_what_comes_in(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    assert until(lambda: arrives(tenant, namespace, "10.9.0.1"))
    with verdict(DROP) as drop, Link.tcx(drop, LOCAL, Direction.INGRESS, namespace=namespace):
        assert not arrives(tenant, namespace, "10.9.0.1")
    assert arrives(tenant, namespace, "10.9.0.1")


@pytest.mark.usefixtures("wire")
def test_egress_decides_what_goes_out(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    assert until(lambda: arrives(namespace, tenant, "10.9.0.2"))
    with verdict(DROP) as drop, Link.tcx(drop, LOCAL, Direction.EGRESS, namespace=namespace) as link:
        assert not arrives(namespace, tenant, "10.9.0.2")
        link.detach()
        assert arrives(namespace, tenant, "10.9.0.2")


@pytest.mark.usefixtures("wire")
def test_replacing_the_program(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    assert until(lambda: arrives(tenant, namespace, "10.9.0.1"))
    with verdict(DROP) as drop, verdict(NEXT) as following:
        with Link.tcx(drop, LOCAL, Direction.INGRESS, namespace=namespace) as link:
            identifier = link.id
            assert link.info().program_id == drop.id
            link.update(following)
            assert (link.id, link.info().program_id) == (identifier, following.id)
            assert arrives(tenant, namespace, "10.9.0.1")
            with pytest.raises(BpfError) as unexpected:
                link.update(drop, expected=drop)
            assert unexpected.value.errno == errno.EPERM
            link.update(drop, expected=following)
            assert not arrives(tenant, namespace, "10.9.0.1")


@pytest.fixture
def three() -> Iterator[list[Program]]:
    programs = [verdict(NEXT, name) for name in ("one", "two", "three")]
    yield programs
    for program in programs:
        program.close()


@pytest.mark.usefixtures("wire")
def test_the_order_of_a_chain(namespace: NetworkNamespace, three: list[Program]) -> None:
    one, two, three_ = three
    with (
        Link.tcx(one, LOCAL, Direction.INGRESS, namespace=namespace) as first,
        Link.tcx(two, LOCAL, Direction.INGRESS, first=True, namespace=namespace),
    ):
        assert attached(LOCAL, Direction.INGRESS, namespace).program_ids == (two.id, one.id)
        with Link.tcx(three_, LOCAL, Direction.INGRESS, before=first, namespace=namespace):
            assert attached(LOCAL, Direction.INGRESS, namespace).program_ids == (two.id, three_.id, one.id)
        with Link.tcx(three_, LOCAL, Direction.INGRESS, after=two, namespace=namespace) as link:
            chain = attached(LOCAL, Direction.INGRESS, namespace)
            assert chain.program_ids == (two.id, three_.id, one.id)
            assert chain.link_ids[1] == link.id
        assert attached(LOCAL, Direction.EGRESS, namespace).program_ids == ()


@pytest.mark.usefixtures("wire")
def test_a_stale_view_of_the_chain_is_refused(namespace: NetworkNamespace, three: list[Program]) -> None:
    revision = attached(LOCAL, Direction.INGRESS, namespace).revision
    with Link.tcx(three[0], LOCAL, Direction.INGRESS, expected_revision=revision, namespace=namespace):
        with pytest.raises(BpfError) as stale:
            Link.tcx(three[1], LOCAL, Direction.INGRESS, expected_revision=revision, namespace=namespace)
        assert stale.value.errno == errno.ESTALE
        with pytest.raises(BpfError) as twice:
            Link.tcx(three[0], LOCAL, Direction.INGRESS, namespace=namespace)
        assert twice.value.errno == errno.EEXIST


@pytest.mark.usefixtures("wire")
def test_indexes_belong_to_a_namespace(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    with verdict(NEXT) as program:
        with pytest.raises(BpfError, match="network namespace") as elsewhere:
            Link.tcx(program, REMOTE, Direction.INGRESS, namespace=namespace)
        assert elsewhere.value.errno == errno.ENODEV
        with Link.tcx(program, REMOTE, Direction.INGRESS, namespace=tenant) as link:
            assert link.info().interface == REMOTE


def test_a_link_survives_its_device(namespace: NetworkNamespace, netlink: Netlink, wire: Netlink) -> None:
    with verdict(NEXT) as program, Link.tcx(program, LOCAL, Direction.INGRESS, namespace=namespace) as link:
        info = link.info()
        assert (info.interface, info.attach_type) == (LOCAL, AttachType.TCX_INGRESS)
        netlink.submit(interfaces.delete(LOCAL))
        assert link.info().interface == 0
        with verdict(NEXT) as other, pytest.raises(BpfError) as gone:
            link.update(other)
        assert gone.value.errno == errno.ENOLINK


@pytest.mark.usefixtures("wire")
@pytest.mark.parametrize("mode", list(XdpMode))
def test_xdp_comes_first(namespace: NetworkNamespace, tenant: NetworkNamespace, mode: XdpMode) -> None:
    assert until(lambda: arrives(tenant, namespace, "10.9.0.1"))
    with verdict(1, kind=ProgramKind.XDP) as drop, verdict(2, kind=ProgramKind.XDP) as pass_on:
        with Link.xdp(drop, LOCAL, mode, namespace=namespace) as link:
            assert not arrives(tenant, namespace, "10.9.0.1")
            with pytest.raises(BpfError) as second:
                Link.xdp(pass_on, LOCAL, mode, namespace=namespace)
            assert second.value.errno in (errno.EBUSY, errno.EEXIST)
            link.update(pass_on)
            assert link.info().interface == LOCAL
            with Netlink(namespace) as netlink:
                found = interfaces.find(netlink, LOCAL)
            assert found is not None
            assert found.xdp_program == pass_on.id
            assert until(lambda: arrives(tenant, namespace, "10.9.0.1"))


@pytest.mark.usefixtures("wire")
def test_live_frames_are_sent(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    transmit = 3
    count = assemble(map_value(R1, 0), move(R0, 1), add_atomically(R1, 0, R0), leave(DROP))
    with Map.create(MapSpec("count", MapKind.ARRAY, 4, 8, 1)) as counter:
        spec = ProgramSpec("count", ProgramKind.SCHED_CLS, count)
        with (
            Program.load(spec, [counter]) as receiver,
            Link.tcx(receiver, REMOTE, Direction.INGRESS, namespace=tenant),
            verdict(2, kind=ProgramKind.XDP) as anything,
            Link.xdp(anything, REMOTE, namespace=tenant),
            verdict(transmit, kind=ProgramKind.XDP) as sender,
            namespace.entered(),
        ):
            frame = bytes(60)
            sender.send_live(frame, xdp_context(len(frame), LOCAL), repeat=256)
            assert until(lambda: number(counter) >= 256)


@pytest.mark.usefixtures("wire")
def test_only_one_place_at_a_time(namespace: NetworkNamespace, three: list[Program]) -> None:
    with pytest.raises(ValueError, match="only one"):
        Link.tcx(three[0], LOCAL, Direction.INGRESS, first=True, before=three[1], namespace=namespace)


@pytest.mark.usefixtures("wire")
def test_a_program_sees_its_interface(namespace: NetworkNamespace, tenant: NetworkNamespace) -> None:
    interface_index = 40
    code = assemble(load(R0, R1, interface_index, 4), map_value(R1, 0), store(R1, 0, R0), leave(NEXT))
    with Map.create(MapSpec("seen", MapKind.ARRAY, 4, 8, 1)) as seen:
        with Program.load(ProgramSpec("see", ProgramKind.SCHED_CLS, code), [seen]) as program:
            with Link.tcx(program, LOCAL, Direction.INGRESS, namespace=namespace):
                assert until(lambda: arrives(tenant, namespace, "10.9.0.1"))
        assert seen.lookup(bytes(4)) == struct.pack("=Q", LOCAL)
