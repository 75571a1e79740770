"""Stages that are made for files which other stages write: what runs before anybody knows all of those files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dvcx.core.globs import Globs, fixed_part
from dvcx.core.paths import contains
from dvcx.core.pipeline.dependencies import near
from dvcx.core.pipeline.graph import Graph
from dvcx.core.pipeline.schema import Stage, address

Maps = Mapping[str, str]
"""By the address before the `@`: the wildcard that names the files."""


def first_part(graph: Graph, left: Sequence[Stage], maps: Maps) -> tuple[Stage, ...]:
    """Those of the stages that are `left` to run which can run before the files of all `maps` are known, in that order.

    All of them when nobody among them writes such files. While a map has no stage at all, nobody can tell what needs it by
    its outputs' paths: then it is only those that write its files, and what they need.
    """
    names = {stage.address for stage in left}
    makers = {name: makers_of(graph, name, pattern) & names for name, pattern in maps.items()}
    unknown = {name for name, found in makers.items() if found}
    if not unknown:
        return tuple(left)
    held = {stage.address for stage in left if _group(stage) in unknown or any(want.value in unknown for want in stage.wants)}
    held = reached(held, graph.downstream)
    chosen = names - held
    if not unknown <= {_group(stage) for stage in graph.stages.values()}:
        chosen &= reached(set().union(*(makers[name] for name in unknown)), graph.upstream)
    return tuple(stage for stage in left if stage.address in chosen) or tuple(left)


def makers_of(graph: Graph, name: str, pattern: str) -> set[str]:
    """The stages whose outputs may be, or hold, files that the wildcard of the map `name` names."""
    globs, begins = Globs([pattern]), fixed_part(pattern)
    paths = [path for path in near(pattern, graph.owners) if contains(path, begins) or globs.names(path) or globs.leads(path)]
    return {owner for owner in map(graph.owners.__getitem__, paths) if _group(graph.stages[owner]) != name}


def meant(graph: Graph, targets: Iterable[str], maps: Maps, done: Iterable[str]) -> list[str]:
    """The targets, with those that write a map's files instead of a stage of it that is not known before they are `done`."""
    found = []
    for target in targets:
        name = target.partition("@")[0]
        known = target in graph.stages or any(stage.named(target) for stage in graph.stages.values())
        before = makers_of(graph, name, maps[name]).difference(done) if name in maps and not known else set()
        found += sorted(before) or [target]
    return found


def unseen(graph: Graph, name: str, pattern: str, files: Iterable[str]) -> list[str]:
    """Those of the `files` that the wildcard of a map names now for which it has no stage."""
    begins = fixed_part(pattern)
    return [path for path in files if f"{name}@{path[len(begins) + bool(begins) :]}" not in graph.stages]


def reached(names: set[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    """Some stages and all that the edges lead to from them."""
    found, todo = set(names), list(names)
    while todo:
        for name in edges[todo.pop()]:
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def _group(stage: Stage) -> str:
    return address(stage.file, stage.group) if stage.group else ""
