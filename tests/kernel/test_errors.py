"""What refusals say. No kernel is needed for that, except for being told what we may."""

from __future__ import annotations

import errno

import pytest

import iovisor.kernel
from iovisor.kernel import (
    BpfError,
    Capability,
    KernelError,
    NetlinkError,
    SocketBuffer,
    VerifierRejection,
    capabilities,
    xdp_context,
)
from iovisor.kernel.errors import last_sentence


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            BpfError(errno.E2BIG, "map update", "stations"),
            "map update 'stations': argument list too long (E2BIG); "
            "the map is full, or the request is larger than this kernel knows",
        ),
        (
            BpfError(524, "map lookup"),
            "map lookup: operation is not supported (ENOTSUPP); this kind of object does not support it",
        ),
        (
            NetlinkError(errno.EINVAL, "interface change", "p0", "mtu less than device minimum"),
            "interface change 'p0': invalid argument (EINVAL); mtu less than device minimum",
        ),
        (
            KernelError(errno.ENOENT, "namespace open", "red"),
            "namespace open 'red': no such file or directory (ENOENT)",
        ),
    ],
)
def test_messages(error: KernelError, message: str) -> None:
    assert str(error) == message
    assert isinstance(error, OSError)


def test_a_refusal_names_the_missing_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "effective", lambda: frozenset({Capability.BPF}))
    assert "this thread lacks CAP_NET_ADMIN, CAP_PERFMON" in str(
        BpfError(errno.EPERM, "program load", "root")
    )
    assert "this thread lacks CAP_NET_ADMIN" in str(NetlinkError(errno.EPERM, "veth create", "p0"))
    assert "forbids it" in str(BpfError(errno.EPERM, "map update", "frozen"))


def test_the_administrator_may_do_what_bpf_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "effective", lambda: frozenset({Capability.SYS_ADMIN}))
    assert capabilities.missing((Capability.BPF, Capability.NET_ADMIN)) == (Capability.NET_ADMIN,)


def test_the_reason_is_the_last_sentence_of_the_log() -> None:
    log = (
        "0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000) peak_states 0\n\n"
    )
    assert last_sentence(log) == "R0 !read_ok"
    assert VerifierRejection(errno.EACCES, "bad", log).reason == "R0 !read_ok"
    assert last_sentence("") == "nothing (the log is empty)"


def test_contexts_are_read_back() -> None:
    context = SocketBuffer(1, 2, 3, 4, (5, 6, 7, 8, 9), 10, 11, 12, 13, 14)
    assert len(bytes(context)) == 192
    assert SocketBuffer.parse(bytes(context)) == context
    with pytest.raises(ValueError, match="192 bytes"):
        SocketBuffer.parse(b"")
    assert xdp_context(64, 5, 1).hex() == "00000000400000000000000005000000" + "0100000000000000"


def test_the_public_surface_is_what_is_listed() -> None:
    listed = iovisor.kernel.__all__
    assert len(listed) == len(set(listed))
    for name in listed:
        assert hasattr(iovisor.kernel, name)
