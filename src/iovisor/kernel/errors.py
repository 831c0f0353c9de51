"""Everything the kernel can say no with, as one tree.

    OSError
    └── KernelError                 errno, what was attempted, on which object, what to do about it
        ├── BpfError                bpf(2)
        │   └── VerifierRejection   ... of a program; carries the whole verifier log
        ├── NetlinkError            rtnetlink, with the kernel's own sentence (extack) where there is one
        └── FeatureMissing          this kernel is too old, or was built without the feature

All of them are `OSError`s, so `error.errno` works and `except OSError` catches what a caller of the standard
library expects. A message has three parts: what was attempted and on what, what the kernel answered, and
the next step. The advice is chosen here and not at the call sites, so that the same errno reads the same
everywhere.

Rejected: one exception class per errno (nobody catches EBUSY by class), and returning negative numbers.
"""

from __future__ import annotations

import errno as numbers
import os

from .capabilities import Capability, missing


class KernelError(OSError):
    """The kernel refused.

    `operation` is what was attempted ("map create"), `subject` the object's name (may be empty), `advice`
    the next step (may be empty).
    """

    def __init__(self, errno: int, operation: str, subject: str = "", advice: str = "") -> None:
        self.operation, self.subject, self.advice = operation, subject, advice
        target = f" {subject!r}" if subject else ""
        reason, name = os.strerror(errno).lower(), numbers.errorcode.get(errno, str(errno))
        if errno == 524:  # ENOTSUPP is not for user space, yet gets there
            reason, name = "operation is not supported", "ENOTSUPP"
        super().__init__(errno, f"{operation}{target}: {reason} ({name})" + (f"; {advice}" if advice else ""))

    def __str__(self) -> str:
        return str(self.strerror)


class BpfError(KernelError):
    """bpf(2) failed."""

    def __init__(self, errno: int, operation: str, subject: str = "", advice: str = "") -> None:
        super().__init__(errno, operation, subject, advice or _bpf_advice(errno, operation))


class VerifierRejection(BpfError):
    """The verifier refused a program.

    `log` is the verifier's full text at log level 1, `reason` its last sentence before the statistics. The
    message holds only `reason`: a log may be megabytes long.
    """

    def __init__(self, errno: int, subject: str, log: str) -> None:
        self.log = log
        self.reason = last_sentence(log)
        super().__init__(errno, "program load", subject, f"the verifier says: {self.reason}")


class NetlinkError(KernelError):
    """rtnetlink refused a request.

    `explanation` is the kernel's own sentence, empty if it gave none; `offset` is the byte offset of the
    offending attribute in the request, -1 if not told. If the request was one of a batch, `failures` holds
    every failure of the batch in order, of which this is the first.
    """

    def __init__(
        self, errno: int, operation: str, subject: str = "", explanation: str = "", offset: int = -1
    ) -> None:
        self.explanation, self.offset = explanation, offset
        self.failures: tuple[NetlinkError, ...] = ()
        super().__init__(errno, operation, subject, explanation or _netlink_advice(errno))


class FeatureMissing(KernelError):
    """The running kernel lacks `feature`; `since` is the first release that has it ("6.6")."""

    def __init__(self, feature: str, since: str) -> None:
        self.feature, self.since = feature, since
        release = os.uname().release
        super().__init__(
            numbers.EOPNOTSUPP,
            "kernel feature",
            feature,
            f"needs Linux {since} or newer with the feature built in, this is {release}",
        )


def last_sentence(log: str) -> str:
    """The line of a verifier log that says why: the last that is no statistics."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(("processed ", "verification time", "stack depth", "insns ", "max_states")):
            continue
        return line
    return "nothing (the log is empty)"


_NEEDS = {
    "map": (Capability.BPF,),
    "program": (Capability.BPF, Capability.NET_ADMIN, Capability.PERFMON),
    "link": (Capability.NET_ADMIN, Capability.BPF),
    "btf": (Capability.BPF,),
    "identifier": (Capability.SYS_ADMIN,),
}


def _bpf_advice(errno: int, operation: str) -> str:
    if errno in (numbers.EPERM, numbers.EACCES):
        needed = _NEEDS.get(operation.partition(" ")[0], (Capability.BPF,))
        lacking = missing(needed)
        if lacking:
            return "this thread lacks " + ", ".join(capability.label for capability in lacking)
        return "every needed capability is there, so lockdown, a security module or a frozen map forbids it"
    return _BPF_ADVICE.get(errno, "")


_BPF_ADVICE = {
    numbers.E2BIG: "the map is full, or the request is larger than this kernel knows",
    numbers.EEXIST: "it is there already: update or replace it, or ask for another place",
    numbers.ENOSPC: "a buffer or the map is too small for the answer",
    numbers.ENOENT: "no such object; it may have been removed meanwhile",
    numbers.EBUSY: "somebody else holds the place: detach that first",
    numbers.ENOLINK: "the device of this link is gone",
    numbers.ESTALE: "the chain was changed by somebody else: query its revision again",
    numbers.ENODEV: "no interface of that index in the network namespace of the calling thread",
    numbers.ENOMEM: "out of memory, or of the memory of this cgroup",
    numbers.EMFILE: "too many open descriptors: pin objects and close them",
    numbers.EBADF: "the object is closed",
    numbers.ERANGE: "the device's MTU is too large for XDP without fragments",
    numbers.EOPNOTSUPP: "this kind of object does not support it",
    524: "this kind of object does not support it",
}


def _netlink_advice(errno: int) -> str:
    if errno == numbers.EPERM:
        lacking = missing((Capability.NET_ADMIN,))
        return f"this thread lacks {lacking[0].label}" if lacking else ""
    return {
        numbers.EEXIST: "it is there already",
        numbers.ENODEV: "no such interface in this network namespace",
        numbers.ENOTCONN: "a veth peer must not be created up: set it up after",
        numbers.EOPNOTSUPP: "this kind of device is not in this kernel",
        numbers.ENETUNREACH: "the gateway is not on a connected network, or the interface is down",
        numbers.ENOBUFS: "messages were lost: the receive buffer was too small, dump the state again",
    }.get(errno, "")
