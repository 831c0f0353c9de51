"""Pins: objects outliving their descriptors, and going with their file system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iovisor.kernel import (
    BpfError,
    Direction,
    Link,
    Map,
    MapKind,
    MapSpec,
    NetworkNamespace,
    Program,
    ProgramKind,
    ProgramSpec,
    attached,
    filesystem,
    unpin,
)
from iovisor.kernel.assembler import assemble, leave
from tests.waiting import until

from .conftest import LOCAL

pytestmark = pytest.mark.root


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    directory = filesystem.mount(tmp_path / "pins")
    yield directory
    filesystem.unmount(directory)


def test_mounting_is_idempotent_and_private(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "pins"
    assert not filesystem.is_mounted(directory)
    filesystem.mount(directory)
    filesystem.mount(directory)
    assert filesystem.is_mounted(directory)
    assert not filesystem.is_mounted(tmp_path)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert filesystem.unmount(directory)
    assert not filesystem.is_mounted(directory)
    assert not filesystem.unmount(directory)


def test_a_pinned_map_keeps_its_content(pins: Path) -> None:
    with Map.create(MapSpec("kept", MapKind.HASH, 4, 4, 8)) as kept:
        kept.update(b"abcd", b"1234")
        kept.pin(pins / "kept")
        with pytest.raises(BpfError, match="EEXIST"):
            kept.pin(pins / "kept")
    with Map.open_pinned(pins / "kept") as again:
        assert again.spec.name == "kept"
        assert again.lookup(b"abcd") == b"1234"
    assert unpin(pins / "kept")
    assert not unpin(pins / "kept")
    with pytest.raises(BpfError, match=r"map open.*ENOENT"):
        Map.open_pinned(pins / "kept")


def test_a_pinned_program_runs_again(pins: Path) -> None:
    with Program.load(ProgramSpec("seven", ProgramKind.XDP, assemble(leave(7)))) as program:
        program.pin(pins / "seven")
    with Program.open_pinned(pins / "seven") as again:
        assert (again.name, again.test_run(bytes(64)).return_value) == ("seven", 7)


@pytest.mark.usefixtures("wire")
def test_a_pinned_link_stays_attached_and_can_be_taken_over(pins: Path, namespace: NetworkNamespace) -> None:
    spec = ProgramSpec("next", ProgramKind.SCHED_CLS, assemble(leave(-1)))
    with Program.load(spec) as old, Link.tcx(old, LOCAL, Direction.INGRESS, namespace=namespace) as link:
        link.pin(pins / "link")
    assert len(attached(LOCAL, Direction.INGRESS, namespace).program_ids) == 1
    with Program.load(spec) as new, Link.open_pinned(pins / "link") as taken:
        taken.update(new)
        assert attached(LOCAL, Direction.INGRESS, namespace).program_ids == (new.id,)
        with Link.from_id(taken.id) as same:
            assert same.info() == taken.info()
    unpin(pins / "link")
    # The kernel lets go of an unlinked pin a grace period later.
    assert until(lambda: not attached(LOCAL, Direction.INGRESS, namespace).program_ids)


def test_pins_need_the_file_system(tmp_path: Path) -> None:
    with Map.create(MapSpec("lost", MapKind.ARRAY, 4, 4, 1)) as lost:
        with pytest.raises(BpfError, match="map pin"):
            lost.pin(tmp_path / "lost")
