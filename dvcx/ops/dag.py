"""dag: how stages and tracked data depend on one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.paths import contains, several
from dvcx.core.pipeline.graph import order
from dvcx.core.records import POINTER_SUFFIX
from dvcx.errors import NotFound
from dvcx.events import Emit, ignore
from dvcx.ops import records

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Graph:
    """Stages by address and the tracked paths they read, in the order data flows; an edge leads from what is needed."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]


def dag(project: Project, targets: Sequence[str] = (), *, emit: Emit = ignore) -> Graph:
    """The graph of all stages, or of the targets with all they need; of tracked data as a target, with all that needs it.

    Raises `NotFound`, and `Conflict` for a cycle or two owners of one path.
    """
    targets = several(targets)
    tracked = records.load(project)
    graph = tracked.graph
    wanted: set[str] = set() if targets else set(graph.stages)
    for target in targets:
        data = [path for path in tracked.pointers if _names(target, path)]
        readers = [stage for stage, sources in graph.sources.items() if set(data) & set(sources)]
        if data:
            wanted.update(stage.address for stage in order(graph, readers, downstream=True) if readers)
        try:
            wanted.update(stage.address for stage in order(graph, [target]))
        except NotFound:
            if not data:
                raise
    stages = [address for address in graph.stages if address in wanted]
    # A stage may be called like a path; its pointer's name cannot be mistaken.
    labels = {path: path if path not in graph.stages else path + POINTER_SUFFIX for path in tracked.pointers}
    sources = sorted({path for address in stages for path in graph.sources[address]})
    edges = [(labels[path], address) for address in stages for path in graph.sources[address]]
    edges += [(need, address) for address in stages for need in graph.upstream[address] if need in wanted]
    return Graph((*(labels[path] for path in sources), *stages), tuple(edges))


def _names(target: str, path: str) -> bool:
    return contains(target, path) or contains(path, target) or target == path + POINTER_SUFFIX
