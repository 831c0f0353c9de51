"""`iovisor demo`: the main job, on real traffic, in a minute.

A learning switch written in Python is compiled while one looks, put into the kernel between four hosts, and made to
work: pings, fragmented datagrams, a gigabyte whose hash must be the same at both ends, and bulk TCP beside the Linux
bridge on the same devices.  It shows what the switch knows.  Then a daemon keeps networks of two tenants
(demo_networks.py).  All goes away without a trace, also when it is stopped.

What is asserted is marked, and a mark that fails is exit code 1: this is a demonstration, and also a test.

Throughput is measured in rounds, ours and the bridge's in turn, because a machine's speed changes by the second; what
is given is the median of each and the median of the ratios.
"""
from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from .errors import Unusable
from .stage import Stage

if TYPE_CHECKING:
    from rich.console import Console

    from ..fabric import Running
    from ..testing import Host
    from .hosts import Hosts

PICTURE = """\
   10.0.0.1  fd00::1          10.0.0.2  fd00::2
      ┌────────┐                  ┌────────┐
      │   [cyan]h1[/]   │                  │   [cyan]h2[/]   │       four hosts: network namespaces,
      └───┬────┘                  └────┬───┘       each with its own stack, joined by
          │       ┌────────────┐       │           veth pairs to one more
        0 └───────┤            ├───────┘ 1
                  │   [bold green]switch[/]   │                   the switch: [bold]switch.py[/], compiled to
        2 ┌───────┤            ├───────┐ 3         eBPF and attached to the devices;
          │       └────────────┘       │           no packet ever meets Python
      ┌───┴────┐                  ┌────┴───┐
      │   [cyan]h3[/]   │                  │   [cyan]h4[/]   │
      └────────┘                  └────────┘
   10.0.0.3  fd00::3          10.0.0.4  fd00::4"""
GIGABYTE = 1 << 30
BLOCK = 1 << 20
NOT_RELAYED = bytes.fromhex("0180c2000000" "020000000001" "0027") + b"\x42\x42\x03" + bytes(43)
COPIES = 3
QUIET = 0.1


@click.command("demo", short_help="See it work: real packets through a Python switch in the kernel.")
@click.option("--quick", is_flag=True, help="The same with little traffic.")
@click.pass_context
def command(ctx: click.Context, quick: bool) -> None:
    """Compile the switch, put it between four hosts, and send real traffic through it. Needs root."""
    from .privileges import demand_compiler, demand_kernel
    demand_compiler()
    demand_kernel("the demo")
    from rich.console import Console
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 130
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="iovisor-demo-") as folder:
            failed = Demo(console, quick, folder).run()
    except KeyboardInterrupt:
        console.print("\nended early; nothing is left behind")
        ctx.exit(130)
    if failed:
        ctx.exit(1)


class Demo(Stage):
    """One demonstration; `run` answers what did not hold."""

    def __init__(self, console: Console, quick: bool, folder: str) -> None:
        super().__init__(console, [])
        self.quick, self.folder = quick, folder
        self.begun = time.monotonic()

    def run(self) -> list[str]:
        from ..functions.switch import Switch
        from .demo_networks import networks
        from .hosts import Hosts
        self.title("What is being built")
        self.console.print(PICTURE)
        self.source()
        cache = self.compile()
        with Hosts(4) as hosts:
            time.sleep(QUIET)       # a lab joins only hosts that have told their groups; that is not our time
            begun = time.perf_counter()
            with hosts.join(Switch(), cache) as running:
                ready = (time.perf_counter() - begun) * 1e3
                self.say(f"running between the four hosts after another [bold]{ready:.0f} ms[/]: loaded, verified, "
                         "attached; compiled code is kept")
                self.title("Real packets")
                self.pings(hosts)
                self.datagrams(hosts)
                self.transfer(hosts)
                self.refused(hosts)
                self.title("What the switch knows")
                self.knows(hosts, running)
                self.title("Bulk TCP, beside the Linux bridge on the same devices")
                self.throughput(hosts, running)
        networks(self)
        self.title("Done")
        self.mark(not leftovers(), "no device, no namespace, no process is left behind")
        seconds = time.monotonic() - self.begun
        verdict = "[bold red]" + "; ".join(self.failed) + "[/]" if self.failed else "[bold green]all of it held[/]"
        self.say(f"{verdict}, in {seconds:.0f} s.  Yours next:  [bold]iovisor new my_function[/]")
        return self.failed

    # -- the program -------------------------------------------------------------------------------------------------

    def source(self) -> None:
        """The data path, as it is in the file."""
        import inspect
        import textwrap

        from rich.syntax import Syntax

        from ..functions.switch import Switch
        self.title("The program, from functions/switch.py: what becomes of a frame, what is learned")
        for method in (Switch.ingress, Switch.learn):
            text = textwrap.indent(textwrap.dedent(inspect.getsource(method)), "  ")
            if self.console.is_terminal:
                self.console.print(Syntax(text, "python", theme="ansi_dark", background_color="default",
                                          word_wrap=True))
            else:
                self.console.print(text, markup=False)

    def compile(self) -> Any:
        """Compile it now, from nothing; a cache with the result."""
        from ..compiler.cache import Cache
        from ..functions.switch import Switch
        from ..targets.bpf_loaded import BpfLoaded
        from .measure import costs
        self.title("Compiled, now")
        cache = Cache(self.folder)
        begun = time.perf_counter()
        with BpfLoaded(Switch(), "tc", ("ingress", "egress"), cache=cache) as loaded:
            whole = (time.perf_counter() - begun) * 1e3
            timing = [compiled.timing for compiled in loaded.compiled.values()]
            front, llvm = (sum(getattr(one, part) for one in timing) * 1e3 for part in ("frontend", "llvm"))
            self.say(f"Python to a program in the kernel, from nothing: [bold]{whole:.0f} ms[/]"
                     f"  ({front:.0f} ms reading, typing and checking; {llvm:.0f} ms LLVM)")
            for entry, program in loaded.programs.items():
                information, compiled = program.info(), loaded.compiled[entry]
                self.say(f"[bold]{compiled.image.instructions}[/] eBPF instructions, "
                         f"[bold]{information.instructions}[/] once the verifier knows the configuration, "
                         f"{information.compiled_length:,} bytes of machine code", f"{entry:7}")
            cost = costs(loaded, "ingress")
            known = next(iter(cost.values()))
            self.say(f"a packet between two known stations costs [bold]{known.nanoseconds:.0f} ns[/] in it")
        return cache

    # -- traffic -----------------------------------------------------------------------------------------------------

    def pings(self, hosts: Hosts) -> None:
        from .hosts import ping_all
        for family in (4, 6):
            found = ping_all(hosts, family=family)
            times = [best for best in found.values() if best is not None]
            middle = f", round trip {statistics.median(times):.2f} ms" if times else ""
            self.mark(len(times) == len(found),
                      f"ping IPv{family}: {len(times)} of {len(found)} pairs answered{middle}")

    def datagrams(self, hosts: Hosts, size: int = 8192, count: int = 100) -> None:
        """Large UDP: each is six fragments on the wire, and must be put together again."""
        one, other = hosts.hosts[0], hosts.hosts[3]
        for family, address in ((4, other.ipv4), (6, other.ipv6)):
            with _socket(other, family, socket.SOCK_DGRAM) as receiver, \
                    _socket(one, family, socket.SOCK_DGRAM) as sender:
                receiver.bind((address, 0))
                sender.connect(receiver.getsockname()[:2])
                good = 0
                for number in range(count):
                    text = number.to_bytes(4, "big") + os.urandom(size - 4)
                    sender.send(text)
                    with contextlib.suppress(TimeoutError):
                        good += receiver.recv(size + 1) == text
            self.mark(good == count,
                      f"UDP over IPv{family}: {good} of {count} datagrams of 8 kB, in fragments, byte for byte")

    def transfer(self, hosts: Hosts) -> None:
        """A gigabyte over TCP, no two blocks alike; the same at both ends?"""
        size = GIGABYTE // 16 if self.quick else GIGABYTE
        seconds, sent, received = transferred(hosts.hosts[0], hosts.hosts[1], size)
        rate = size * 8 / seconds / 1e9
        label = "64 MB" if self.quick else "1 GB"
        self.mark(sent == received, f"TCP: {label} from h1 to h2, the same at both ends by BLAKE2 ({received[:16]}…), "
                                    f"{rate:.1f} Gbit/s with hashing")

    def refused(self, hosts: Hosts) -> None:
        """Frames that no bridge relays."""
        hosts.hosts[0].send(*[NOT_RELAYED] * COPIES)

    def knows(self, hosts: Hosts, running: Running) -> None:
        """The learned table, counters and drops: the same Python objects as in a test, now backed by kernel maps."""
        from rich import box
        from rich.table import Table

        from ..language import mac_text
        from .columns import size
        switch: Any = running.function
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
        for title in ("port", "station", "frames in", "bytes", "frames out", "bytes"):
            table.add_column(title, justify="left" if title == "station" else "right", no_wrap=True)
        stations = {station.port: mac_text(key.mac) for key, station in switch.stations.items()}
        ports = sorted(hosts.edges())
        for port in ports:
            received, sent = switch.received.read(port), switch.sent.read(port)
            table.add_row(str(port), stations.get(port, "-"), f"{int(received.packets):,}", size(int(received.bytes)),
                          f"{int(sent.packets):,}", size(int(sent.bytes)))
        self.console.print(table)
        expected = {port: f"02:00:00:00:00:{port + 1:02x}" for port in ports}
        self.mark(stations == expected, "learned: every station behind its port")
        drops = running.drops
        names = ", ".join(f"{reason} {count}" for reason, count in drops.items()) or "none"
        self.mark(drops == {"RESERVED_ADDRESS": COPIES},
                  f"dropped, by reason: {names}  (h1 sent {COPIES} BPDUs, which no bridge may relay)")

    def throughput(self, hosts: Hosts, running: Running) -> None:
        import shutil
        if shutil.which("iperf3") is None:
            self.console.print("  iperf3 is not installed, so nothing is compared: apt install iperf3")
            return
        rounds, seconds = (1, 1) if self.quick else (5, 2)
        ours, bridge = [], []
        with self.console.status("") as status:
            for number in range(rounds):
                status.update(f"  round {number + 1} of {rounds}: through the switch")
                ours.append(gigabits(hosts, seconds))
                for port in hosts.edges():
                    running.part(port)
                status.update(f"  round {number + 1} of {rounds}: through the Linux bridge")
                with hosts.bridged():
                    bridge.append(gigabits(hosts, seconds))
                for port, edge in hosts.edges().items():
                    running.join(port, edge)
        most = max(*ours, *bridge)
        for name, values, colour in (("switch.py", ours, "green"), ("Linux bridge", bridge, "blue")):
            value = statistics.median(values)
            bar = "━" * max(round(40 * value / most), 1)
            self.console.print(f"  {name:13}[{colour}]{bar:40}[/] [bold]{value:5.1f}[/] Gbit/s")
        ratio = statistics.median(a / b for a, b in zip(ours, bridge, strict=True))
        each = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, bridge, strict=True))
        self.console.print()
        self.say(f"ours / bridge: [bold]{ratio:.2f}[/]  (median of {each}; one TCP stream by iperf3, {seconds} s each "
                 f"in turn, {os.cpu_count()} CPUs)")


# -- the work --------------------------------------------------------------------------------------------------------

def gigabits(hosts: Hosts, seconds: int) -> float:
    """One TCP stream from the first host to the second."""
    import json
    one, other = hosts.hosts[:2]
    server = hosts.start(other, ["iperf3", "-s", "-1", "--forceflush"])
    assert server.stdout is not None
    for line in server.stdout:
        if "listening" in line:
            break
    client = hosts.start(one, ["iperf3", "-c", other.ipv4, "-t", str(seconds), "-J"])
    text, _ = client.communicate(timeout=seconds + 20)
    server.kill()
    server.communicate()
    report = json.loads(text)
    if "error" in report:
        raise Unusable(f"iperf3: {report['error']}")
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9


def transferred(one: Host, other: Host, size: int) -> tuple[float, str, str]:
    """Send `size` bytes over TCP; seconds, and the hashes of what was sent and of what came."""
    found: list[str] = []
    with _socket(other, 4, socket.SOCK_STREAM) as listener, _socket(one, 4, socket.SOCK_STREAM) as sender:
        listener.bind((other.ipv4, 0))
        listener.listen()
        receive = threading.Thread(target=_receive, args=(listener, found), daemon=True)
        receive.start()
        sender.connect(listener.getsockname())
        hashed, block = hashlib.blake2b(), bytearray(os.urandom(BLOCK))
        begun = time.perf_counter()
        for number in range(size // BLOCK):
            struct.pack_into("<Q", block, number * 64 % (BLOCK - 8), number)
            hashed.update(block)
            sender.sendall(block)
        sender.shutdown(socket.SHUT_WR)
        receive.join(60)
        return time.perf_counter() - begun, hashed.hexdigest(), found[0] if found else "nothing"


def _receive(listener: socket.socket, found: list[str]) -> None:
    with contextlib.suppress(OSError):
        connection, _ = listener.accept()
        hashed, room = hashlib.blake2b(), bytearray(BLOCK)
        with connection:
            connection.settimeout(20)
            while count := connection.recv_into(room):
                hashed.update(memoryview(room)[:count])
        found.append(hashed.hexdigest())


@contextlib.contextmanager
def _socket(host: Host, family: int, kind: int) -> Iterator[socket.socket]:
    made = host.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind)
    made.settimeout(20 if kind == socket.SOCK_STREAM else 1)
    with made:
        yield made


def leftovers() -> list[str]:
    """What this process still holds of the kernel's: namespaces, programs, attachments, children.

    The maps that all instances of a process share (the clock, the context) and the compiler's child are the process's
    own, and end with it.
    """
    from ..compiler.backend import BACKEND
    from ..kernel import NetworkNamespace
    found = [name for name in NetworkNamespace.names() if name.startswith(f"lab-{os.getpid()}-")]
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as file:
            found += [f"process {child}" for child in file.read().split() if int(child) != BACKEND.child]
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{entry}")
            if target.startswith("net:") or target in ("anon_inode:bpf-prog", "anon_inode:bpf_link"):
                found.append(target)
    return found


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
