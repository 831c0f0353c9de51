"""Processes that send and receive while a test changes the network under them: numbered datagrams, and bulk TCP.

    python flows.py send 10.0.0.2 2500       datagrams a second, until standard input ends; prints how many
    python flows.py receive                  until standard input ends; prints how many, how many different ones
    python flows.py push 10.0.0.2            TCP as fast as it goes, until standard input ends; prints the bytes
    python flows.py drain                    the other end; prints the bytes

Each says `ready` first.  Only the standard library, so that a process starts quickly.
"""
from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

PORT = 7777
FORCED = 33                     # SO_RCVBUFFORCE


def ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def send(address: str, rate: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, PORT))
        print("ready", flush=True)
        begun, sent = time.monotonic(), 0
        while not ended():
            while sent < (time.monotonic() - begun) * rate:
                sender.send(sent.to_bytes(8, "little") + bytes(56))
                sent += 1
            time.sleep(0.0005)
        print(sent)


def receive() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, FORCED, 1 << 25)
        receiver.bind(("", PORT))
        print("ready", flush=True)
        count, different = 0, set()
        while not (idle := select.select([receiver, sys.stdin], [], [])[0]) or receiver in idle:
            different.add(receiver.recv(100))
            count += 1
        print(count, len(different))


def push(address: str) -> None:
    with socket.create_connection((address, PORT)) as sender:
        print("ready", flush=True)
        sent, data = 0, bytes(1 << 16)
        while not ended():
            sent += sender.send(data)
        sender.shutdown(socket.SHUT_WR)
        print(sent)


def drain() -> None:
    with socket.create_server(("", PORT)) as server:
        print("ready", flush=True)
        connection = server.accept()[0]
        received = 0
        while data := connection.recv(1 << 18):
            received += len(data)
        connection.close()
        print(received)


@dataclass
class Result:
    """What happened to the datagrams, both directions together, and to the bytes of TCP."""

    sent: int = 0
    lost: int = 0
    doubled: int = 0
    pushed: int = 0
    drained: int = 0
    seconds: float = 0.0

    @property
    def unharmed(self) -> bool:
        """Whether a storm beside did nothing to the datagrams: none is lost, on a quiet machine.

        What waits for a CPU that somebody else has (a test in another process) waits in one queue with the storm and
        may find it full, so one in two hundred is let go.
        """
        return self.doubled == 0 and self.lost <= self.sent // 200


class Flows:
    """Datagrams both ways and (`bulk`) a TCP flow between two hosts, as long as a `with`; `result` afterwards."""

    def __init__(self, a: Any, b: Any, rate: int = 2500, bulk: bool = True) -> None:
        self.a, self.b, self.rate, self.bulk, self.result = a, b, rate, bulk, Result()

    def _start(self, host: Any, *arguments: str) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = host.namespace.popen(
            [sys.executable, "-S", __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._undo.callback(self._kill, process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process

    @staticmethod
    def _kill(process: subprocess.Popen[str]) -> None:
        with process:
            process.kill()

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> list[int]:
        return [int(word) for word in process.communicate(timeout=20)[0].split()]

    def __enter__(self) -> Self:
        self._undo = ExitStack()
        self.receivers = [self._start(host, "receive") for host in (self.a, self.b)]
        if self.bulk:
            self.drain = self._start(self.b, "drain")
        self.senders = [self._start(self.a, "send", self.b.address, str(self.rate)),
                        self._start(self.b, "send", self.a.address, str(self.rate))]
        if self.bulk:
            self.push = self._start(self.a, "push", self.b.address)
        time.sleep(0.1)
        self._begun = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        with self._undo:
            if error is not None:
                return
            result = self.result
            time.sleep(0.1)
            result.seconds = time.monotonic() - self._begun
            result.sent = sum(self._end(sender)[0] for sender in self.senders)
            time.sleep(0.3)
            counts = [self._end(receiver) for receiver in self.receivers]
            result.lost = result.sent - sum(different for _, different in counts)
            result.doubled = sum(count - different for count, different in counts)
            if self.bulk:
                result.pushed, result.drained = self._end(self.push)[0], self._end(self.drain)[0]


if __name__ == "__main__":
    {"send": lambda: send(sys.argv[2], int(sys.argv[3])), "receive": receive, "push": lambda: push(sys.argv[2]),
     "drain": drain}[sys.argv[1]]()
