"""What systemd wants to hear, said without its library: READY, WATCHDOG, STOPPING, as datagrams to a socket it names.
"""
from __future__ import annotations

import os
import socket


def notify(*lines: str) -> bool:
    """Say something to whoever started us; False if nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as said:
        said.setblocking(False)         # who does not read must not hold us up
        try:
            said.connect("\0" + address[1:] if address.startswith("@") else address)
            said.send("\n".join(lines).encode())
        except OSError:                 # whoever started us is gone, or does not listen: no reason to end as well
            return False
    return True


def watched() -> float:
    """Seconds between two signs of life; 0 if nobody waits for them."""
    waits = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(waits) / 2e6 if waits.isdigit() and ours else 0.0


__all__ = ["notify", "watched"]
