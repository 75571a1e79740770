"""params: show parameters, and compare them, in the workspace and at revisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.core.metrics import Values, flatten
from dvcx.core.paths import several
from dvcx.core.pipeline.params import select
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
DEFAULT = "params.yaml"


def params_show(
    project: Project,
    targets: Sequence[str] = (),
    *,
    rev: Sequence[str] = (),
    all_branches: bool = False,
    all_tags: bool = False,
    all_commits: bool = False,
    limit: int = 0,
    deps: bool = False,
    remote: str = "",
) -> ValuesShown:
    """The parameters in every file that stages use, or in `targets`, flat; of the workspace or of revisions.

    `deps` leaves only those that stages depend on. Of `all_commits` the newest `limit`, 0 for all. A file that is missing or
    broken is a problem of the result; one that was named and is nowhere raises `NotFound`.
    """
    targets = several(targets)
    asked = Asked(rev, all_branches, all_tags, all_commits, limit)
    return shown(project, asked, targets, remote, lambda view, problems: _values(view, targets, deps, problems))


def params_diff(
    project: Project,
    a: str = "HEAD",
    b: str = "",
    *,
    targets: Sequence[str] = (),
    all: bool = False,
    deps: bool = False,
    remote: str = "",
) -> ValuesCompared:
    """Which parameters differ from revision `a` to `b`, or to the workspace; with `all` those that are the same, too.

    Raises `NotFound` for an unknown revision, and for a target that neither side has; what cannot be read is a problem of the
    result.
    """
    targets, a, b = several(targets), plain_name(a), plain_name(b)
    problems: list[Problem] = []
    with Views(project, remote) as views:
        old, new = (_values(views.at(rev), targets, deps, problems) for rev in (a, b))
    check_found(targets, {*old, *new}, problems)
    return compared(a, b, old, new, problems, all=all)


def _values(view: View, targets: Sequence[str], deps: bool, problems: list[Problem]) -> dict[str, Values]:
    used = _used(view)
    named = [path for pipeline in view.tracked.pipelines.values() for path in pipeline.params]
    paths = targets or tuple(dict.fromkeys((*used, *(() if deps else (*named, DEFAULT)))))
    silent = () if DEFAULT in used or DEFAULT in named or targets else (DEFAULT,)
    # As DVC has it: all of what is named, listed at the top, or the default; of other files the keys that stages use.
    whole = () if deps else (*targets, *named, DEFAULT)
    keys = {path: used[path] for path in used if path not in whole}

    def load(data: bytes, where: str) -> Values:
        from dvcx.io.yaml import load_params

        path = where[len(view.rev) + 1 :] if view.rev else where
        return flatten(select(load_params(data, where), keys.get(path, ())))

    return values(view, paths, load, LIMIT, problems, silent=silent)


def _used(view: View) -> dict[str, tuple[str, ...]]:
    """The files of parameters that stages use, and the keys they use of each: none stands for all."""
    found: dict[str, tuple[str, ...] | None] = {}
    for stage in view.tracked.stages:
        for of in (*stage.params, *stage.used):
            known = found.get(of.file, ())
            found[of.file] = None if known is None or not of.keys else (*known, *(key for key in of.keys if key not in known))
    return {file: keys or () for file, keys in found.items()}
