"""From the shape that stands to the one that is wanted, all of it or nothing.

This is the only place that changes a running network.  It has two halves, because the decision is the store's: `turn`
makes the new shape carry the packets and takes nothing away that the old one needs, tables above all; then the store
says that the new one is current, in one transaction; then `tidy` takes away what is left over.  An error in `turn`
leads back to the old shape.  A process that dies before the store's transaction comes back to the old shape, with its
state; one that dies after it to the new: at start, each network is turned to what the store calls current.

Within `turn` everything changes as one revision of the fabric, which no packet sees half of: functions of another kind
under the same name, endpoints that move, come and go.  Where something is only added to what is there, no revision is
needed: what is joined is complete before anything leads to it.

A function whose kind changes so much that its tables cannot be kept is replaced; if the store fails after that, it
comes back empty.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..fabric import Network, upgrade
from ..fabric.revision import Draft
from ..kernel import KernelError, rcu
from .shape import Shape, Step, difference


def plan(network: Network, wanted: Shape) -> list[Step]:
    """What `turn` and `tidy` would do."""
    return list(difference(Shape.of(network), wanted, keeping(network, wanted)))


def from_nothing(wanted: Shape) -> list[Step]:
    """What it would take where there is no network yet."""
    return list(difference(Shape(), wanted))


def turn(network: Network, wanted: Shape, before_traffic: Callable[[], object] | None = None) -> list[Step]:
    """Make the wanted shape carry the packets; answers what was done.  An error leaves the former shape.

    `before_traffic` is called when all functions are there and no new device sends yet.
    """
    former = Shape.of(network)
    steps = [step for step in plan(network, wanted) if step.what != "remove"]
    # Of what comes with a memory, devices are attached when it is there.
    late = [step for step in steps if before_traffic is not None and step.what == "attach" and _is_new(step, former)]
    with rcu.expedited():
        try:
            _together(network, [step for step in steps if step not in late])
            if before_traffic is not None:
                with network.kept():
                    before_traffic()
            _together(network, late)
        except BaseException:
            back = plan(network, former)
            _together(network, [step for step in back if step.what != "remove"])
            for step in back:
                if step.what == "remove":
                    _do(network, step)
            raise
    return steps


def _is_new(step: Step, former: Shape) -> bool:
    return step.edge not in former.edges.values()


def mend(network: Network, wanted: Shape) -> tuple[list[Step], dict[str, str]]:
    """As `turn` and `tidy`, but what cannot be attached now, because its namespace or device is not there yet, holds up
    nothing else: answers what was done, and why what was not."""
    steps, missing, former = plan(network, wanted), {}, Shape.of(network)
    if not steps:
        return [], {}
    waiting = [step for step in steps if step.what == "attach" and _is_new(step, former)]
    present = dict(wanted.edges)
    for step in waiting:
        del present[step.ends[0]]
    turn(network, replace(wanted, edges=present))
    done = [step for step in steps if step not in waiting]
    for step in waiting:
        if step.edge is not None:
            try:
                network.attach(step.ends[0], step.edge)
                done.append(step)
            except (KernelError, ValueError) as error:
                missing[str(step.ends[0])] = str(error)
    tidy(network, replace(wanted, edges=Shape.of(network).edges))
    return done, missing


def tidy(network: Network, wanted: Shape) -> list[Step]:
    """Take away what the wanted shape does not need."""
    steps = plan(network, wanted)
    with rcu.expedited():
        for step in steps:
            _do(network, step)
    return steps


def keeping(network: Network, wanted: Shape) -> frozenset[str]:
    """The functions of another kind that can read the tables of what is there."""
    return frozenset(name for name, part in wanted.parts.items()
                     if name in network.instances and type(network.instances[name].function) is not part.kind
                     and _fits(network, name, part.kind))


def _fits(network: Network, name: str, kind: type) -> bool:
    function = network.instances[name].function
    try:
        upgrade.check(name, function, kind)
        known = kind.spec().config.types                                                # type: ignore[attr-defined]
        kind(**{field: getattr(function.config, field) for field in function.config.types if field in known})
    except ValueError:
        return False
    return True


def _together(network: Network, steps: list[Step]) -> None:
    """Several steps as one revision: no packet meets some of them and not the others.

    A single one needs none, nor do steps that only add: what is joined is complete before anything leads to it.
    """
    if len(steps) < 2 or all(step.what in ("add", "link", "attach") for step in steps):
        for step in steps:
            if step.what != "attach":
                _do(network, step)
        network.attach_all({step.ends[0]: step.edge for step in steps
                            if step.edge is not None and step.what == "attach"})
        return
    with network.revision() as draft:
        for step in steps:
            _do(draft, step)


def _do(network: Network | Draft, step: Step) -> None:
    match step.what:
        case "add":
            assert step.part is not None
            network.add(step.name, step.part.kind(config=step.part.config))
        case "remove":
            network.remove(step.name)
        case "replace":
            assert step.part is not None
            network.remove(step.name)
            network.add(step.name, step.part.kind(config=step.part.config))
        case "upgrade":
            assert step.part is not None
            network.upgrade(step.name, step.part.kind)
        case "reconfigure":
            assert step.part is not None
            config = step.part.config
            network.reconfigure(step.name, **{field: getattr(config, field) for field in config.types})
        case "link":
            network.link(*step.ends)
        case "unlink":
            network.unlink(step.ends[0])
        case "attach":
            assert step.edge is not None
            network.attach(step.ends[0], step.edge)
        case "detach":
            network.detach(step.ends[0])
        case other:
            raise AssertionError(other)


__all__ = ["Shape", "from_nothing", "keeping", "mend", "plan", "tidy", "turn"]
