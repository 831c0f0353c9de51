"""Loading, being refused, and running programs in the kernel."""

from __future__ import annotations

import errno
import struct

import pytest

from iovisor.kernel import (
    AttachType,
    BpfError,
    Map,
    MapKind,
    MapSpec,
    Program,
    ProgramKind,
    ProgramSpec,
    SocketBuffer,
    VerifierRejection,
    statistics_enabled,
    xdp_context,
)
from iovisor.kernel.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R10,
    Helper,
    Label,
    add_atomically,
    assemble,
    call,
    compute,
    jump_if,
    leave,
    load,
    map_index,
    map_value,
    move,
    store,
    tail_call,
)
from iovisor.kernel.btf import Types

pytestmark = pytest.mark.root

PASS = ProgramSpec("pass", ProgramKind.SCHED_CLS, assemble(leave(0)))
PACKET = bytes(range(64))


def test_the_verdict_comes_back_signed() -> None:
    with Program.load(ProgramSpec("next", ProgramKind.SCHED_CLS, assemble(leave(-1)))) as program:
        run = program.test_run(PACKET)
        assert (run.return_value, run.data, run.context) == (-1, PACKET, b"")


def test_a_program_may_change_the_packet() -> None:
    code = assemble(
        move(R6, R1),
        store(R10, -8, 0x55667788, 4),
        move(R2, 14),
        move(R3, R10),
        compute(R3, "+", -8),
        move(R1, R6),
        move(R4, 4),
        move(R5, 0),
        call(Helper.PACKET_STORE),
        leave(),
    )
    with Program.load(ProgramSpec("stamp", ProgramKind.SCHED_CLS, code)) as program:
        run = program.test_run(PACKET)
        assert run.return_value == 0
        assert run.data == PACKET[:14] + bytes.fromhex("88776655") + PACKET[18:]


def test_the_context_goes_in_and_comes_out() -> None:
    mark, priority, control = 8, 32, 48
    code = assemble(
        load(R2, R1, mark, 4),
        compute(R2, "+", 1),
        store(R1, mark, R2, 4),
        store(R1, priority, R2, 4),
        load(R0, R1, control, 4),
        store(R1, control + 4, R0, 4),
        leave(),
    )
    with Program.load(ProgramSpec("context", ProgramKind.SCHED_CLS, code)) as program:
        before = SocketBuffer(mark=41, interface=1, control=(9, 0, 0, 0, 0))
        run = program.test_run(PACKET, bytes(before))
        after = SocketBuffer.parse(run.context)
        assert run.return_value == 9
        assert (after.mark, after.priority, after.control) == (42, 42, (9, 9, 0, 0, 0))
        # and without a context in between
        assert program.test_run(PACKET).return_value == 0


def test_xdp_moves_the_head() -> None:
    code = assemble(move(R2, 14), call(Helper.XDP_ADJUST_HEAD), leave(2))
    spec = ProgramSpec("strip", ProgramKind.XDP, code, expected_attach_type=AttachType.XDP)
    with Program.load(spec) as program:
        run = program.test_run(PACKET, xdp_context(len(PACKET), interface=1))
        assert run.return_value == 2
        assert run.data == PACKET[14:]
        assert len(run.context) == 24


def test_an_unacceptable_packet_is_refused() -> None:
    with Program.load(PASS) as program, pytest.raises(BpfError, match="test run 'pass'") as refused:
        program.test_run(b"short")
    assert refused.value.errno == errno.EINVAL


def test_maps_are_named_by_index() -> None:
    code = assemble(
        store(R10, -4, 0, 4),
        map_index(R1, 1),
        move(R2, R10),
        compute(R2, "+", -4),
        call(Helper.MAP_LOOKUP),
        jump_if(R0, "==", 0, "out"),
        move(R1, 1),
        add_atomically(R0, 0, R1),
        map_value(R2, 0, 8),
        load(R0, R2, 0, 4),
        leave(),
        Label("out"),
        leave(2),
    )
    spec = ProgramSpec("count", ProgramKind.SCHED_CLS, code)
    array = MapSpec("array", MapKind.ARRAY, 4, 16, 1)
    with Map.create(array) as data, Map.create(MapSpec("count", MapKind.ARRAY, 4, 8, 1)) as count:
        data.update(bytes(4), struct.pack("=QQ", 0, 77))
        with Program.load(spec, [data, count.fd]) as program:
            assert set(program.map_ids()) == {data.id, count.id}
            assert program.test_run(PACKET, repeat=100).return_value == 77
            assert count.lookup(bytes(4)) == struct.pack("=Q", 100)
            # the same bytes, another map
            with Map.create(MapSpec("other", MapKind.ARRAY, 4, 8, 1)) as other:
                with Program.load(spec, [data, other]) as second:
                    second.test_run(PACKET)
                assert other.lookup(bytes(4)) == struct.pack("=Q", 1)


def test_a_program_keeps_what_is_bound_to_it() -> None:
    with Program.load(PASS) as program:
        with Map.create(MapSpec("bound", MapKind.ARRAY, 4, 4, 1)) as made:
            program.bind(made)
            made.update(bytes(4), b"kept")
            number = made.id
        assert program.map_ids() == [number]
        with Map.from_id(number) as found:
            assert found.lookup(bytes(4)) == b"kept"


def test_tail_calls_reach_the_next_program() -> None:
    root = ProgramSpec("root", ProgramKind.SCHED_CLS, assemble(tail_call(0, 1), leave(2)))
    with Map.create(MapSpec("stages", MapKind.PROGRAM_ARRAY, 4, 4, 2)) as stages:
        with Program.load(root, [stages]) as program:
            assert program.test_run(PACKET).return_value == 2
            with Program.load(ProgramSpec("stage", ProgramKind.SCHED_CLS, assemble(leave(7)))) as stage:
                stages.store(struct.pack("=I", 1), stage)
            assert program.test_run(PACKET).return_value == 7


def test_a_rejection_carries_the_log() -> None:
    code = assemble(load(R0, R1, 4096, 4), leave())
    with pytest.raises(VerifierRejection) as rejected:
        Program.load(ProgramSpec("astray", ProgramKind.SCHED_CLS, code))
    assert "invalid bpf_context access off=4096" in rejected.value.log
    assert rejected.value.reason == "invalid bpf_context access off=4096 size=4"
    assert "program load 'astray'" in str(rejected.value)
    assert "\n" not in str(rejected.value)


def test_a_log_of_megabytes_is_whole() -> None:
    lines = [line for i in range(7000) for line in (load(R2, R1, 0, 4), jump_if(R2, "==", i, "bad"))]
    code = assemble(*lines, leave(0), Label("bad"), load(R0, R1, 4096, 4), leave())
    with pytest.raises(VerifierRejection) as rejected:
        Program.load(ProgramSpec("chatty", ProgramKind.SCHED_CLS, code))
    assert len(rejected.value.log) > 1 << 19
    assert rejected.value.log.lstrip().startswith("0: R1=ctx()")
    assert "off=4096" in rejected.value.reason


def test_the_log_of_a_success_on_demand() -> None:
    with Program.load(PASS) as quiet, Program.load(PASS, log_level=2) as loud:
        assert quiet.log == ""
        assert "0: (b7) r0 = 0" in loud.log
    with Program.load(PASS, log_level=4) as short:
        assert "processed 2 insns" in short.log


def test_the_log_quotes_the_source() -> None:
    types = Types()
    context = types.pointer(types.structure("__sk_buff", 0))
    prototype = types.prototype(types.integer("int", 4, signed=True), [("ctx", context)])
    main = types.function("firewall", prototype)
    file, line = types.string("firewall.py"), types.string("    return packet[9999]")
    spec = ProgramSpec(
        "firewall",
        ProgramKind.SCHED_CLS,
        assemble(load(R0, R1, 4096, 4), leave()),
        btf=types.blob(),
        func_info=struct.pack("=II", 0, main),
        line_info=struct.pack("=IIII", 0, file, line, 4 << 10 | 12),
    )
    with pytest.raises(VerifierRejection) as rejected:
        Program.load(spec)
    assert "; return packet[9999] @ firewall.py:4" in rejected.value.log


@pytest.mark.parametrize(
    "wrong",
    [
        {"instructions": b""},
        {"instructions": b"1234567"},
        {"func_info": bytes(8)},
        {"btf": b"x", "line_info": bytes(8)},
    ],
)
def test_a_malformed_spec_is_refused_early(wrong: dict[str, bytes]) -> None:
    fields: dict[str, object] = {"name": "odd", "kind": ProgramKind.XDP, "instructions": bytes(8), **wrong}
    with pytest.raises(ValueError, match="'odd'"):
        ProgramSpec(**fields)  # type: ignore[arg-type]


def test_malformed_types_are_explained() -> None:
    spec = ProgramSpec("typed", ProgramKind.XDP, assemble(leave(2)), btf=b"\x9f\xeb\1\0" + bytes(30))
    with pytest.raises(BpfError, match=r"btf load.*; "):
        Program.load(spec)


def test_information() -> None:
    with Program.load(PASS) as program:
        info = program.info()
        assert (info.name, info.kind, info.id) == ("pass", ProgramKind.SCHED_CLS, program.id)
        assert info.instructions == 2
        assert info.verified == 2
        assert info.compiled_length > 0
        assert program.memory() > 0
        with Program.from_id(program.id) as same:
            assert (same.name, same.kind) == ("pass", ProgramKind.SCHED_CLS)


def test_runs_are_counted_on_demand() -> None:
    with Program.load(PASS) as program:
        program.test_run(PACKET, repeat=10)
        before = program.info().run_count
        with statistics_enabled():
            program.test_run(PACKET, repeat=1000)
        assert program.info().run_count - before == 1000


def test_a_closed_program_does_not_run() -> None:
    program = Program.load(PASS)
    program.test_run(PACKET)
    program.close()
    with pytest.raises(BpfError) as closed:
        program.test_run(PACKET)
    assert closed.value.errno == errno.EBADF
