"""The graph: who owns which path, which stage needs which, and in what order they run."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from dvcx.core.paths import contains
from dvcx.core.pipeline.dependencies import CODE, GLOB, condition_files, near, needs, not_read, reads_output
from dvcx.core.pipeline.schema import Stage, address
from dvcx.core.records import POINTER_SUFFIX
from dvcx.core.spelling import did_you_mean
from dvcx.errors import Conflict, NotFound, UsageError, display

MAX_LINKS = 4
"""So many steps of a cycle are told with their places."""


class Graph(NamedTuple):
    """All stages of a project by address, in the order they run, and what each needs directly.

    `upstream` and `downstream` hold addresses, in that order as well; `sources` the tracked paths (those with a
    pointer) a stage reads. Every stage is a key of all of them. `owners` maps each output path to its stage's address.
    """

    stages: Mapping[str, Stage]
    upstream: Mapping[str, tuple[str, ...]]
    downstream: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, tuple[str, ...]]
    owners: Mapping[str, str]


def build(stages: Iterable[Stage], pointers: Iterable[str] = ()) -> Graph:
    """The graph of all stages and pointers (their tracked paths) of a project.

    A stage needs every other stage that owns a path containing, or contained in, a path it reads (dependencies,
    files of params and of its conditions). Raises `Conflict` for two owners of one path, outputs that overlap, and a cycle.
    """
    found = list(stages)
    tracked = frozenset(pointers)
    owners = {out.path: stage.address for stage in found for out in stage.outs}
    index = _Owners([(out.path, stage) for stage in found for out in stage.outs], tracked)
    upstream: dict[str, list[str]] = {}
    sources: dict[str, tuple[str, ...]] = {}
    known = {stage.address: stage for stage in found}
    nears: dict[str, tuple[str, ...]] = {}
    for stage in found:
        if stage.address in upstream:
            raise Conflict(f"stage '{display(stage.address)}' is defined twice", "rename one of the two")
        before: dict[str, None] = {}
        reads: dict[str, None] = {}
        for path in (*stage.deps, *(of.file for of in stage.params), *(condition_files(stage) if stage.when else ())):
            for owned in index.overlapping(path):
                if owned in tracked:
                    reads[owned] = None
                else:
                    before[owners[owned]] = None
        if stage.wants:
            before.update(dict.fromkeys(needs(stage, known)))
            for owned in _wanted(stage, owners, tracked, index, nears):
                if owned in tracked:
                    reads[owned] = None
                else:
                    before[owners[owned]] = None
        upstream[stage.address] = list(before)
        sources[stage.address] = tuple(sorted(reads))
    by_address = {stage.address: stage for stage in found}
    ordered = _sorted(by_address, upstream)
    rank = {name: number for number, name in enumerate(ordered)}
    downstream: dict[str, list[str]] = {name: [] for name in ordered}
    for name in ordered:
        for need in upstream[name]:
            downstream[need].append(name)
    return Graph(
        {name: known[name] for name in ordered},
        {name: tuple(sorted(upstream[name], key=rank.__getitem__)) for name in ordered},
        {name: tuple(downstream[name]) for name in ordered},
        sources,
        owners,
    )


def order(
    graph: Graph, targets: Sequence[str] = (), *, downstream: bool = False, single: bool = False
) -> tuple[Stage, ...]:
    """The stages to look at for `targets`, each after those it needs; without targets all.

    The targets and everything they need, or with `downstream` everything that needs them, or with `single` just them.
    What a frozen stage needs is left out. A target is an address, a name, a dvcx.yaml or a path; see `find`.
    """
    chosen = {stage.address for target in targets for stage in find(graph, target)} if targets else set(graph.stages)
    if targets and not single:
        todo = list(chosen)
        while todo:
            name = todo.pop()
            frozen = graph.stages[name].frozen and not downstream
            for near in () if frozen else (graph.downstream if downstream else graph.upstream)[name]:
                if near not in chosen:
                    chosen.add(near)
                    todo.append(near)
    return tuple(stage for name, stage in graph.stages.items() if name in chosen)


def find(graph: Graph, target: str) -> tuple[Stage, ...]:
    """The stages `target` names: by address, name, or group, by their dvcx.yaml, or by a path that overlaps their outputs.

    Raises `NotFound`, or `UsageError` for a name that several dvcx.yaml files have.
    """
    if target in graph.stages:
        return (graph.stages[target],)
    named = [stage for stage in graph.stages.values() if stage.named(target)]
    if len({stage.file for stage in named}) > 1:
        listed = " or ".join(dict.fromkeys(display(address(stage.file, target)) for stage in named))
        raise UsageError(f"several stages are named '{display(target)}'", f"say which: {listed}")
    if named:
        return tuple(named)
    target = target.removeprefix("./").rstrip("/")
    in_file = [stage for stage in graph.stages.values() if stage.file == target]
    if in_file:
        return tuple(in_file)
    makers = {owner for path, owner in graph.owners.items() if target and (contains(path, target) or contains(target, path))}
    if makers:
        return tuple(stage for name, stage in graph.stages.items() if name in makers)
    known = (*graph.stages, *(stage.name for stage in graph.stages.values()), *graph.owners)
    hint = did_you_mean(target, known) or "dvcx stage list shows them all"
    raise NotFound(f"no stage '{display(target[:200])}', and none writes a path of that name", hint)


def _wanted(
    stage: Stage, owners: Mapping[str, str], tracked: Iterable[str], index: _Owners, nears: dict[str, tuple[str, ...]]
) -> Iterator[str]:
    """The owned paths that wildcards and scripts among a stage's dependencies read. `nears` remembers what `near` said."""
    for want in stage.wants:
        if want.kind == CODE:
            yield from index.overlapping(want.value)
        elif want.kind == GLOB:
            if want.value not in nears:
                nears[want.value] = near(want.value, (*owners, *tracked))
            passed = set(not_read(stage, want, nears[want.value]))
            yield from (path for path in nears[want.value] if path not in passed and reads_output(want, path))


class _Owners:
    """Owned paths, sorted by component so that whatever lies below a path stands right behind it."""

    def __init__(self, outs: Sequence[tuple[str, Stage]], tracked: Iterable[str]) -> None:
        rows: list[tuple[tuple[str, ...], str, Stage | None]] = [(tuple(path.split("/")), path, owner) for path, owner in outs]
        rows += [(tuple(path.split("/")), path, None) for path in tracked]
        rows.sort(key=lambda row: (row[0], "" if row[2] is None else row[2].address))
        for (_, outer, first), (_, inner, second) in pairwise(rows):
            if contains(outer, inner):
                raise _two_owners(outer, _owner(outer, first), inner, _owner(inner, second))
        self._keys = [key for key, _, _ in rows]
        self._paths = [path for _, path, _ in rows]
        self._known = set(self._paths)

    def overlapping(self, path: str) -> list[str]:
        """The owned paths that contain `path` or lie below it."""
        key = tuple(path.split("/"))
        above = "/".join(key[:1])
        for part in key[1:]:
            if above in self._known:
                return [above]
            above += "/" + part
        at = bisect_left(self._keys, key)
        end = at
        while end < len(self._keys) and self._keys[end][: len(key)] == key:
            end += 1
        return self._paths[at:end]


def _owner(path: str, stage: Stage | None) -> str:
    return f"'{path}{POINTER_SUFFIX}'" if stage is None else f"stage '{stage.address}'{_place(stage, path)}"


def _place(stage: Stage, path: str = "") -> str:
    return f" ({stage.where(path)})" if stage.places else ""


def _two_owners(outer: str, first: str, inner: str, second: str) -> Conflict:
    hint = "one path has one owner: write one of them elsewhere, or stop tracking it (dvcx remove)"
    if outer == inner:
        return Conflict(display(f"'{outer}' has two owners: {first} and {second}"), hint)
    return Conflict(display(f"'{inner}' of {second} lies inside '{outer}' of {first}"), hint)


def _sorted(stages: Mapping[str, Stage], upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """The addresses of `stages`, each after what it needs and otherwise in the order given. Raises `Conflict` for a cycle."""
    names = list(stages)
    place = {name: number for number, name in enumerate(names)}
    waiting = {name: len(upstream[name]) for name in names}
    needed_by: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        for need in upstream[name]:
            needed_by[need].append(name)
    ready = [place[name] for name in names if not waiting[name]]
    ordered = []
    while ready:
        name = names[heapq.heappop(ready)]
        ordered.append(name)
        for follower in needed_by[name]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, place[follower])
    if len(ordered) < len(names):
        left = {name for name in names if waiting[name]}
        names = _loop(next(name for name in names if name in left), left, upstream)
        loop = " → ".join(names) + "".join(_links(stages, names))
        raise Conflict(display(f"the stages need one another in a circle: {loop}"), "let one of them read or write another path")
    return ordered


def _links(stages: Mapping[str, Stage], names: Sequence[str]) -> Iterator[str]:
    """For the first steps of a cycle: what is read, and where both stages say so."""
    for writer, reader in list(pairwise(names))[:MAX_LINKS]:
        first, second = stages[writer], stages[reader]
        reads = [*second.deps, *(of.file for of in second.params), *(want.value for want in second.wants)]
        outs = [(out.path, read) for out in first.outs for read in reads if contains(out.path, read) or contains(read, out.path)]
        for path, read in outs[:1]:
            yield f"; {reader} reads {read}{_place(second, read)}, which {writer} writes{_place(first, path)}"


def _loop(start: str, left: set[str], upstream: Mapping[str, Sequence[str]]) -> list[str]:
    """One cycle among `left`, in the direction data flows, its first name again at the end."""
    walk: dict[str, int] = {}
    name = start
    while name not in walk:
        walk[name] = len(walk)
        name = next(need for need in upstream[name] if need in left)
    loop = [step for step, number in walk.items() if number >= walk[name]][::-1]
    # Begin with the stage that comes first in the alphabet: the same cycle always reads the same.
    first = loop.index(min(loop))
    loop = loop[first:] + loop[:first]
    return [*loop, loop[0]]
