"""How many packets a second may go to Python: a bucket of tokens, which several networks may share.

What finds no token stays in the kernel's ring.  A second's worth may come at once, so that a few are never late.
"""
from __future__ import annotations

import threading
import time


class Allowance:
    """`rate` packets a second; None for as many as there are.  May be used by several threads."""

    def __init__(self, rate: int | None = None) -> None:
        self._lock = threading.Lock()
        self._rate, self._tokens, self._at = rate, float(rate or 0), time.monotonic()

    @property
    def rate(self) -> int | None:
        return self._rate

    @rate.setter
    def rate(self, rate: int | None) -> None:
        with self._lock:
            self._rate, self._tokens, self._at = rate, float(rate or 0), time.monotonic()

    def take(self) -> bool:
        """Whether one more may go now."""
        if self._rate is None:
            return True
        with self._lock:
            now, rate = time.monotonic(), self._rate or 0
            self._tokens = min(self._tokens + (now - self._at) * rate, max(rate, 1.0))
            self._at = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    @property
    def pause(self) -> float:
        """Seconds until one more may."""
        with self._lock:
            return 1.0 if not self._rate else max(0.001, min(1.0, (1 - self._tokens) / self._rate))


__all__ = ["Allowance"]
