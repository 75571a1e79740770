"""metrics: show metrics, and compare them, in the workspace, at revisions, over all branches or tags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from dvcx.core.metrics import Values, directions_of, flatten, last_row
from dvcx.core.paths import contains, several
from dvcx.core.pipeline.schema import Metric
from dvcx.errors import UsageError, display
from dvcx.ops.revisions import (
    Asked,
    Problem,
    ValuesCompared,
    ValuesShown,
    View,
    Views,
    check_found,
    compared,
    plain_name,
    shown,
    values,
)

if TYPE_CHECKING:
    from dvcx.project import Project

LIMIT = 1 << 20
TABLE_LIMIT = 64 << 20
TABLES = (".csv", ".tsv")


def metrics_show(
    project: Project,
    targets: Sequence[str] = (),
    *,
    rev: Sequence[str] = (),
    all_branches: bool = False,
    all_tags: bool = False,
    all_commits: bool = False,
    limit: int = 0,
    remote: str = "",
) -> ValuesShown:
    """The metrics in every file that is declared as such, or in `targets`, flat; of the workspace or of revisions.

    Of `all_commits` the newest `limit`, 0 for all. A cached file of a revision is read from the cache, else from `remote`. One
    that is missing or broken is a problem of the result; one that was named and is nowhere raises `NotFound`.
    """
    targets = several(targets)
    asked = Asked(rev, all_branches, all_tags, all_commits, limit)
    return shown(project, asked, targets, remote, lambda view, problems: _values(view, targets, problems))


def metrics_diff(
    project: Project, a: str = "HEAD", b: str = "", *, targets: Sequence[str] = (), all: bool = False, remote: str = ""
) -> ValuesCompared:
    """Which metrics differ from revision `a` to `b`, or to the workspace; with `all` those that are the same, too.

    What is better is as the newer side declares it, else the older one. Raises `NotFound` for an unknown revision, and for a
    target that neither side has; what cannot be read is a problem of the result.
    """
    targets, a, b = several(targets), plain_name(a), plain_name(b)
    problems: list[Problem] = []
    with Views(project, remote) as views:
        before, after = views.at(a), views.at(b)
        old, new = _values(before, targets, problems), _values(after, targets, problems)
    check_found(targets, {*old, *new}, problems)
    directions = {**_directions(before, old), **_directions(after, {**old, **new})}
    return compared(a, b, old, new, problems, all=all, directions=directions)


def read_metrics(data: bytes, where: str) -> Values:
    """The metrics in the file `where`: YAML, JSON or TOML, flat, or the last row of a CSV or TSV.

    Raises `UsageError` for a list, and what reading those formats raises.
    """
    if where.lower().endswith(TABLES):
        from dvcx.io.tables import read_table

        return last_row(*read_table(data, where))
    from dvcx.io.yaml import load_values

    found = load_values(data, where)
    if isinstance(found, list):
        raise UsageError(
            f"{display(where)}: metrics must be 'key: value' or a single value, not a list",
            "declare it below plots: plots draw lists",
        )
    return {} if found is None else flatten(found)


def _values(view: View, targets: Sequence[str], problems: list[Problem]) -> dict[str, Values]:
    paths = [path for name in targets or _declared(view) for path in view.below(name) or [name]]
    tables = [path for path in paths if path.lower().endswith(TABLES)]
    found = values(view, [path for path in paths if path not in tables], read_metrics, LIMIT, problems)
    return {**found, **values(view, tables, read_metrics, TABLE_LIMIT, problems)}


def _declared(view: View) -> list[str]:
    """The paths of all metrics."""
    return list(dict.fromkeys(metric.path for metric in _metrics(view)))


def _metrics(view: View) -> Iterator[Metric]:
    """What is declared: outputs of stages, then the lists at the top."""
    yield from (Metric(out.path, out.meta) for stage in view.tracked.stages for out in stage.outs if out.metric)
    yield from (metric for pipeline in view.tracked.pipelines.values() for metric in pipeline.metrics)


def _directions(view: View, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """What is better, of each of `paths`: as its own entry declares it, or that of a directory it is in."""
    declared = ((metric.path, json.loads(metric.meta)) for metric in _metrics(view) if metric.meta)
    found = {path: directions_of(meta, display(path)) for path, meta in declared if isinstance(meta, dict) and "better" in meta}
    owners = {path: max((one for one in found if contains(one, path)), key=len, default="") for path in paths}
    return {path: found[owner] for path, owner in owners.items() if owner}
