"""What can this kernel do?

Version numbers lie: distributions carry features back and build others out. So every feature here is
*tried*, with the smallest program or map that needs it, once per process. `require` turns a no into a
`FeatureMissing` that names the feature and the first release that has it, before anything half-done has to
be undone.

The programs are made with the assembler, so probing needs no compiler. A helper is probed by calling it
without its arguments: a verifier that knows it complains about the arguments, one that does not about the
helper.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum

from .assembler import R0, R1, R2, Helper, Instruction, assemble, call, call_kernel, leave, map_index, move
from .btf import Btf, Types
from .contexts import xdp_context
from .errors import BpfError, FeatureMissing, VerifierRejection
from .links import Direction, attached
from .maps import Map, MapFlag, MapKind, MapSpec
from .programs import Program, ProgramKind, ProgramSpec
from .ring import ring_spec


class Feature(Enum):
    """A feature; the value is its name for people, and the first release that has it."""

    XDP = ("XDP programs", "4.8")
    BTF = ("type information (BTF)", "4.18")
    TEST_CONTEXT = ("contexts in test runs", "5.2")
    MMAPABLE_ARRAY = ("arrays mapped into memory", "5.5")
    BATCH = ("batch operations on maps", "5.6")
    RING_BUFFER = ("ring buffers", "5.8")
    REDIRECT_PEER = ("redirection into the peer of a veth", "5.10")
    REDIRECT_NEIGHBOUR = ("redirection with neighbour lookup", "5.10")
    COARSE_CLOCK = ("the coarse clock", "5.11")
    ATOMIC_FETCH = ("atomic operations with a result", "5.12")
    KERNEL_FUNCTIONS = ("kernel functions (kfuncs)", "5.13")
    MAP_BY_INDEX = ("maps named by index (fd_array)", "5.14")
    TIMER = ("timers in maps", "5.15")
    LOOP = ("bpf_loop", "5.17")
    LIVE_FRAMES = ("live frames in test runs", "5.18")
    CPU_V4 = ("instructions of CPU version 4", "6.6")
    TCX = ("tcx links", "6.6")
    ARENA = ("arenas", "6.9")
    MAY_GOTO = ("loops verified once (may_goto)", "6.9")

    @property
    def label(self) -> str:
        return self.value[0]

    @property
    def since(self) -> str:
        """The first release of Linux that has it."""
        return self.value[1]


@functools.cache
def available(feature: Feature) -> bool:
    """Whether this kernel has the feature, for this process. Tried once, then remembered."""
    try:
        return _PROBES[feature]()
    except BpfError:
        return False


def require(*features: Feature) -> None:
    """FeatureMissing for the first of `features` that is not available."""
    for feature in features:
        if not available(feature):
            raise FeatureMissing(feature.label, feature.since)


def _loads(
    *lines: Instruction, kind: ProgramKind = ProgramKind.SCHED_CLS, maps: tuple[Map, ...] = ()
) -> bool:
    Program.load(ProgramSpec("probe", kind, assemble(*lines, leave(0))), maps).close()
    return True


def _creates(kind: MapKind, key: int, value: int, entries: int, flags: int = 0) -> bool:
    Map.create(MapSpec("probe", kind, key, value, entries, flags)).close()
    return True


def _complains(sentence: str, *lines: Instruction) -> bool:
    """Does the verifier, refusing the program, say this?"""
    try:
        return _loads(*lines)
    except VerifierRejection as rejection:
        return sentence in rejection.log


def _knows(helper: int) -> bool:
    try:
        return _loads(call(helper))
    except VerifierRejection as rejection:
        return "unknown func" not in rejection.log and "invalid func" not in rejection.log


def _ring() -> bool:
    Map.create(ring_spec("probe", 1 << 16)).close()
    return True


def _batch() -> bool:
    with Map.create(MapSpec("probe", MapKind.HASH, 4, 4, 1)) as probe:
        return probe.lookup_batch() == []


def _map_by_index() -> bool:
    with Map.create(MapSpec("probe", MapKind.ARRAY, 4, 4, 1)) as probe:
        return _loads(map_index(R1, 0), maps=(probe,))


def _types() -> bool:
    types = Types()
    types.integer("int", 4, signed=True)
    Btf.load(types.blob()).close()
    return True


def _test_context() -> bool:
    with Program.load(ProgramSpec("probe", ProgramKind.SCHED_CLS, assemble(leave(0)))) as probe:
        return len(probe.test_run(bytes(64), bytes(192)).context) > 0


def _live_frames() -> bool:
    # Every frame is dropped: nothing is sent, whatever interface 1 may be.
    with Program.load(ProgramSpec("probe", ProgramKind.XDP, assemble(leave(1)))) as probe:
        probe.send_live(bytes(64), xdp_context(64, interface=1))
    return True


def _atomic_fetch() -> bool:
    exchange = Instruction(0xDB, 10, 1, -8, 0xE1)
    return _loads(move(R1, 0), Instruction(0x7B, 10, 1, -8), exchange)


def _cpu_v4() -> bool:
    far_jump, sign_extension = Instruction(0x06), Instruction(0xBF, 0, 2, 8)
    return _loads(far_jump, move(R2, 1), sign_extension, move(R0, 0))


def _tcx() -> bool:
    # Interface 1 is the loopback of any namespace; asking changes nothing.
    return attached(1, Direction.INGRESS).revision >= 0


_PROBES: dict[Feature, Callable[[], bool]] = {
    Feature.XDP: lambda: _loads(kind=ProgramKind.XDP),
    Feature.BTF: _types,
    Feature.TEST_CONTEXT: _test_context,
    Feature.MMAPABLE_ARRAY: lambda: _creates(MapKind.ARRAY, 4, 8, 1, MapFlag.MMAPABLE),
    Feature.BATCH: _batch,
    Feature.RING_BUFFER: _ring,
    Feature.REDIRECT_PEER: lambda: _knows(Helper.REDIRECT_PEER),
    Feature.REDIRECT_NEIGHBOUR: lambda: _knows(152),
    Feature.COARSE_CLOCK: lambda: _knows(Helper.CLOCK_COARSE),
    Feature.ATOMIC_FETCH: _atomic_fetch,
    # Type 1 is no function in any kernel, and only one that knows such calls looks.
    Feature.KERNEL_FUNCTIONS: lambda: _complains("is not a function", call_kernel(1)),
    Feature.MAP_BY_INDEX: _map_by_index,
    Feature.TIMER: lambda: _knows(169),
    Feature.LOOP: lambda: _knows(Helper.LOOP),
    Feature.LIVE_FRAMES: _live_frames,
    Feature.CPU_V4: _cpu_v4,
    Feature.TCX: _tcx,
    Feature.MAY_GOTO: lambda: _loads(Instruction(0xE5)),
    Feature.ARENA: lambda: _creates(MapKind.ARENA, 0, 0, 1, MapFlag.MMAPABLE),
}
