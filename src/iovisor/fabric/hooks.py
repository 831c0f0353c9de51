"""Where the function behind a device meets its packets: at tcx, or already at XDP.

    tc             at tcx; every offload stays on.  What is not said is this
    xdp            at XDP, by the driver if it can and nobody is the worse for it, else by the stack
    xdp-native     at XDP by the driver, or not at all
    xdp-generic    at XDP by the stack, on every device

A driver's XDP is what it is for: a flood ends before a socket buffer is made.  But on a cable (veth) it takes
segmentation offload from *the other end*, whose TCP is several times slower then; and on a TAP it passes by what the
machine has aggregated.  So there `xdp` means generic, which runs a moment before tcx and keeps offloads.
"""
from __future__ import annotations

from enum import StrEnum


class Hook(StrEnum):
    """As documents write it."""

    TC = "tc"
    XDP = "xdp"
    NATIVE = "xdp-native"
    GENERIC = "xdp-generic"


#: Kinds of devices whose other end, or whose checksums, a driver's XDP would harm.
SOFT = ("veth", "tun")


def hook(text: str) -> Hook:
    """ValueError if there is none of that name."""
    try:
        return Hook(text)
    except ValueError:
        raise ValueError(f"there is no hook {text!r}: it is one of {', '.join(Hook)}") from None


def settled(wanted: Hook, kind: str) -> Hook:
    """What is wanted of a device of a kind (as `ip -d link` has it); of those that are not soft, its driver decides."""
    return Hook.GENERIC if wanted == Hook.XDP and kind in SOFT else wanted


__all__ = ["SOFT", "Hook", "hook", "settled"]
