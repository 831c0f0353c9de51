"""Which Linux capabilities does the calling thread hold?

bpf(2) answers EPERM for five different reasons and says none of them. The useful half of a good message is
"you lack CAP_NET_ADMIN"; this module finds that half by reading the effective set of the *thread*
(capabilities, like network namespaces, are per thread in Linux). It never changes anything: raising or
dropping capabilities is the business of whoever starts us.
"""

from __future__ import annotations

from enum import IntEnum


class Capability(IntEnum):
    """The capabilities this package can need; the value is the bit number."""

    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39

    @property
    def label(self) -> str:
        return f"CAP_{self.name}"


def effective() -> frozenset[Capability]:
    """The capabilities in effect for the calling thread."""
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("CapEff:"):
                bits = int(line.split()[1], 16)
                return frozenset(capability for capability in Capability if bits >> capability & 1)
    return frozenset()


def missing(needed: tuple[Capability, ...]) -> tuple[Capability, ...]:
    """Those of `needed` the calling thread does not hold. CAP_SYS_ADMIN stands in for BPF and PERFMON."""
    held = effective()
    return tuple(
        capability
        for capability in needed
        if capability not in held
        and not (capability in (Capability.BPF, Capability.PERFMON) and Capability.SYS_ADMIN in held)
    )
