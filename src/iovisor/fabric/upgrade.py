"""A new image takes over the tables of a running instance.

Where both kinds mean the same by the bytes (a table of the same name and sort, keys and values laid out alike) the new
programs are loaded against the same table.  Where they do not, one of the two must say how entries are converted
(`@migrates`, `@reverts`: language/migration.py); they are, into a table beside, while packets go on: see conversion.py.
Otherwise nothing is touched, and the error shows both layouts.  Size belongs to the instance, not to the image, so it
stays as it is.

The new function is made from the old one's configuration, so a new kind may add fields that have defaults.  Its own
initial tables are thrown away, but for those the old kind has not; then `configure(old, new)` runs if the
configurations differ, with None for an old one that lacks fields of the new.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..compiler.driver import compile
from ..kernel import KernelError
from ..language.configuration import Config
from ..language.errors import ConfigError
from ..language.function import Function, move
from ..language.migration import Migration, layout, migration
from ..targets.bpf_loaded import KINDS
from ..targets.homes import KernelHome
from . import grace
from .conversion import Conversion
from .instance import EGRESS, Instance


def take_over(instance: Instance, kind: type[Function], inline: Sequence[int] = (),
              ready: Callable[[], None] = lambda: None, config: Config | None = None) -> list[Conversion]:
    """Make `kind` the function of `instance`, with its programs behind the doors; nothing has changed if that fails.

    With a `config`, it is configured so at once.  `ready` is called when all is loaded, and no packet has met it.  The
    caller calls `finish` with what this answers.
    ValueError: the new kind does not fit in the old one's place, or an entry could not be converted.
    """
    old, loaded = instance.function, instance.loaded
    fresh, conversions, added = check(instance.name, old, kind)
    family = KINDS[loaded.target][0]()
    compiled = {entry: compile(kind, family, entry, instance.cache) for entry in loaded.stages.values()}
    instance.wake()                             # the programs that keep the tables alive are about to go
    loaded.equip(compiled)                      # it stays if this fails, for who tries again
    former = loaded.compiled, loaded.homes, loaded.maps
    loaded.homes, loaded.maps = dict(loaded.homes), dict(loaded.maps)
    for name in old.tables.keys() - fresh.tables.keys():
        del loaded.homes[name], loaded.maps[name]
    made: list[KernelHome] = []
    try:
        for name, table in fresh.tables.items():
            if name not in added and name not in conversions:
                table.home, table.spec = old.tables[name].home, replace(table.spec, size=old.tables[name].spec.size)
                continue
            home = instance.another(table.spec)
            made.append(home)
            loaded.homes[name], loaded.maps[name] = home, home.map
            if name in added:
                move(table.spec, table.home, home)
            table.home = home
        converting = [Conversion(name, found, loaded.homes[name]) for name, found in conversions.items()]
        for conversion in converting:
            conversion.copy()
        loaded.function, loaded.compiled = fresh, compiled
        kept, fresh.config = fresh.config, config or fresh.config
        with instance.renewing(inline):
            fresh.config = kept
            if bytes(old.config.record()) != bytes(kept.record()):
                fresh.configure(old.config if kept.types.keys() <= old.config.types.keys() else None, kept)
            if config is not None:
                fresh.reconfigure(config)
            ready()
    except BaseException:
        loaded.function, (loaded.compiled, loaded.homes, loaded.maps) = old, former
        for home in made:
            instance.discard(home)
        raise
    instance.function = fresh
    return converting


def finish(instance: Instance, old: Function, conversions: list[Conversion]) -> None:
    """Carry over what was written until the roots were turned.  ValueError names what could not be; the rest was.

    KernelError: a table could not be read or written; what was written to it last is missing.
    """
    gone = [old.tables[name].home for name in old.tables.keys() - instance.function.tables.keys()]
    if not gone and not conversions:
        return
    grace.wait()
    failed: list[ValueError | KernelError] = []
    for conversion in conversions:
        try:
            conversion.copy()
        except (ValueError, KernelError) as error:
            failed.append(error)
        old.tables[conversion.name].home = conversion.following()
    instance.retire([*gone, *(conversion.old for conversion in conversions)])
    if failed:
        raise failed[0]


def check(name: str, old: Function, kind: type[Function]) -> tuple[Function, dict[str, Migration], set[str]]:
    """The function that could take over from `old`, how tables are converted, and which are new.

    ValueError says why it could not.
    """
    was, would = old.spec(), kind.spec()
    if was.ports != would.ports:
        raise ValueError(f"{name} has the ports {was.ports}, {would.name} would have {would.ports}")
    if hasattr(old, EGRESS) != hasattr(kind, EGRESS):
        raise ValueError(f"{name}: of {was.name} and {would.name} only one has an egress")
    if [e.__name__ for e in was.events] != [e.__name__ for e in would.events]:
        raise ValueError(f"{name}: {was.name} and {would.name} do not punt the same events")
    try:
        fresh = configured(old.config, kind)
    except ConfigError as error:
        raise ValueError(f"{name}: {kind.__name__} does not take this configuration: {error}") from error
    return fresh, *_plan(name, old, fresh)


def configured(old: Config, kind: type[Function]) -> Function:
    """A function with what of an old configuration there is in the new kind's.  ConfigError: it does not stand."""
    return kind(**{field: getattr(old, field) for field in old.types if field in kind.spec().config.types})


def _plan(instance: str, old: Function, fresh: Function) -> tuple[dict[str, Migration], set[str]]:
    """What is converted, and which tables are new; ValueError shows the layouts of what differs and is not declared."""
    was, would = old.spec(), fresh.spec()
    before = {name: layout(spec) for name, spec in was.tables.items()}
    after = {name: layout(spec) for name, spec in would.tables.items()}
    found: dict[str, Migration] = {}
    lines = []
    for name in {**before, **after}:
        if name not in before or before[name] == after.get(name):
            continue
        declared = migration(old, fresh, name)
        if declared is None:
            lines.append(f"    {name}\n        is        {before[name]}\n"
                         f"        would be  {after.get(name, 'absent')}")
        elif declared.to is not None:
            for spec in (declared.since.spec, declared.to.spec):
                if spec.per_cpu or spec.inner is not None:
                    raise ValueError(f"{instance}: {name} cannot be converted: it is per CPU, or holds tables")
            declared.to.spec = replace(declared.to.spec, size=declared.since.spec.size)
            found[name] = declared
    if lines:
        raise ValueError("\n".join([f"{would.name} cannot take over the tables of {instance}: nothing says how entries "
                                    "are converted (@migrates, @reverts)", *lines]))
    return found, after.keys() - before.keys()
