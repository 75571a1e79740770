"""repro --pull: which bytes must be here. What is known by content alone counts as here until a command has to read it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dvcx.core.globs import fixed_part
from dvcx.core.objects import Content
from dvcx.core.paths import contains
from dvcx.core.pipeline.dependencies import condition_files, files_wanted
from dvcx.core.pipeline.graph import Graph, find
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import Snapshot, Values
from dvcx.errors import NotFound, display
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import way_to

if TYPE_CHECKING:
    from dvcx.io.store.store import Store
    from dvcx.ops.actions import Results


class Pulling:
    """What one `repro --pull` knows without having it. Safe to use from several threads.

    The stages asked for (without targets those that no other stage needs) get their outputs; the outputs of the others stay
    away unless they were here before, or a command that has to run reads them.
    """

    def __init__(self, tracked: Tracked, graph: Graph, chosen: Sequence[Stage], targets: Sequence[str], results: Results) -> None:
        self.results = results
        self._wanted = asked_for(graph, chosen, targets)
        self._guard = threading.Lock()
        # Not placed, and known: by their path, tracked data and outputs.
        self._away = {path: pointer.content for path, (_, pointer) in tracked.pointers.items()}

    def wants(self, stage: Stage) -> bool:
        """Whether the outputs of a stage are to be here in the end."""
        return stage.address in self._wanted or not all(out.cache for out in stage.outs)

    def leave_away(self, outs: Mapping[str, Content]) -> None:
        """These outputs are known now, and not here."""
        with self._guard:
            self._away.update(outs)

    def is_here(self, paths: Iterable[str]) -> None:
        """These paths were placed, or written."""
        with self._guard:
            for path in paths:
                self._away.pop(path, None)

    def away(self, path: str) -> dict[str, Content]:
        """What is not here of all that is at, around or below a path."""
        with self._guard:
            return {
                name: content for name, content in self._away.items() if not path or contains(name, path) or contains(path, name)
            }

    def learn(self, stage: Stage, cache: Store) -> None:
        """Keep the listings that tell what single files are that a stage reads of directories away: for `status`, too."""
        for path in stage.deps:
            for owner, content in self.away(path).items():
                if owner != path and contains(owner, path):
                    self.results.bring({owner: content}, cache, only=way_to(path))

    def overlaid(
        self, stage: Stage, locked: LockEntry | None, now: Snapshot, cache: Store
    ) -> tuple[Snapshot, dict[str, Content]]:
        """The snapshot with what is known without being here, and what has to be placed before anybody can tell more."""
        contents: dict[str, Content | None] = dict(now.contents)
        place: dict[str, Content] = {}
        for path in stage.deps:
            away = self.away(path)
            if path in away:
                if contents.get(path) is None:
                    contents[path] = away[path]
            elif len(away) == 1 and contains(next(iter(away)), path):
                ((owner, content),) = away.items()
                if contents.get(path) is None:
                    contents[path] = self.results.inside(owner, content, path, cache)
            else:
                # A directory that several stages or pointers fill: only together do they say what is in it.
                place.update(away)
        for want in files_wanted(stage):
            place.update(self.away(fixed_part(want.value)))
        for file in params_files(stage):
            # What they say is read, not only what they are.
            place.update(self.away(file))
        outs = {out.path: locked.outs[out.path] for out in stage.outs if locked is not None and out.path in locked.outs}
        if not self.wants(stage) and outs and all(contents.get(out.path) is None for out in stage.outs):
            contents.update(outs)
        return now._replace(contents=contents), place

    def foresee(
        self, stages: Sequence[Stage], lock: Mapping[str, LockEntry], now: Snapshot, cache: Store, values: Values
    ) -> Snapshot:
        """The snapshot of a dry run, as `overlaid` makes it stage by stage; `values` tells of params files away."""
        for stage in stages:
            absent = all(now.contents.get(out.path) is None for out in stage.outs)
            for file in params_files(stage):
                said = self._said(file, cache, values) if now.params.get(file) is None else None
                now = now._replace(params={**now.params, file: said}) if said is not None else now
            now, _ = self.overlaid(stage, lock.get(stage.address), now, cache)
            if absent and not self.wants(stage):
                self.leave_away({out.path: content for out in stage.outs if (content := now.contents.get(out.path)) is not None})
        return now

    def _said(self, file: str, cache: Store, values: Values) -> Mapping[str, Any] | None:
        """What a params file says that is away."""
        away = self.away(file)
        if len(away) != 1:
            return None
        ((owner, content),) = away.items()
        known = content if owner == file else self.results.inside(owner, content, file, cache)
        return values(file, known) if known is not None else None

    def reads(self, stage: Stage, now: Snapshot, recorded: Mapping[str, Content]) -> dict[str, Content]:
        """What a stage that has to run reads and is not here, or not all of it."""
        found: dict[str, Content] = {}
        for path in stage.deps:
            found.update(self.away(path))
            content = recorded.get(path)
            if path in now.not_pulled and content is not None and content == now.contents.get(path):
                found[path] = content
        return found


def asked_for(graph: Graph, chosen: Sequence[Stage], targets: Sequence[str]) -> set[str]:
    """The addresses of the stages whose outputs somebody wants: the targets, without any those that no other stage needs."""
    if targets:
        return {stage.address for target in targets for stage in find(graph, target)}
    names = {stage.address for stage in chosen}
    return {name for name in names if not names.intersection(graph.downstream[name])}


def params_files(stage: Stage) -> list[str]:
    """The files whose values a stage, or its condition, reads."""
    return list(dict.fromkeys([*(of.file for of in stage.params), *condition_files(stage)]))


def lacking(stage: Stage, path: str) -> NotFound:
    """The error for an input that is neither here nor on a remote."""
    return NotFound(
        f"stage '{display(stage.address)}' has to run and needs {display(path)}: it is neither in the cache nor on a remote",
        "push it from where it was made: dvcx push",
    )
