"""dvcx params: show parameters, and compare them between revisions or with the workspace."""

from __future__ import annotations

import os

from typer import Context

from dvcx.cli import values
from dvcx.cli.face import NO_REVISION, Face, instead
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Remote
from dvcx.cli.values import (
    A,
    All,
    AllBranches,
    AllCommits,
    AllTags,
    B,
    Csv,
    Deps,
    Files,
    Layout,
    Limit,
    Markdown,
    Precision,
    Rev,
    Target,
)

app = app()


@app.command("show", cls=Verb)
def show(
    ctx: Context,
    files: Files = None,
    rev: Rev = None,
    all_branches: AllBranches = False,
    all_tags: AllTags = False,
    all_commits: AllCommits = False,
    limit: Limit = 0,
    deps: Deps = False,
    md: Markdown = False,
    csv: Csv = False,
    precision: Precision = 0,
    remote: Remote = "",
) -> None:
    """Show the parameters of stages, flat: `train: {lr: 1}` is `train.lr`. Without FILE: params.yaml and all that stages use.

    Examples:
      dvcx params show
      dvcx params show --rev v1.0 --rev v2.0 --csv

    Exits: 3 4 5 9
    """
    from dvcx.ops.params import params_show as op

    face: Face = ctx.obj
    layout = Layout(face, md=md, csv=csv, precision=precision)
    values.check_limit(limit, all_commits)
    project = face.project()
    asked = face.paths(project, files or ())
    result = op(
        project,
        asked,
        rev=rev or (),
        all_branches=all_branches,
        all_tags=all_tags,
        all_commits=all_commits,
        limit=limit,
        deps=deps,
        remote=remote,
    )
    values.show(face, result, layout, "parameters", changes=all_commits)


@app.command("diff", cls=Verb)
def diff(
    ctx: Context,
    a: A = "HEAD",
    b: B = "",
    targets: Target = None,
    all: All = False,
    deps: Deps = False,
    md: Markdown = False,
    csv: Csv = False,
    precision: Precision = 0,
    remote: Remote = "",
) -> None:
    """Compare parameters between two revisions, or between a revision and the workspace. It exits with 0, whatever differs.

    Examples:
      dvcx params diff
      dvcx params diff v1.0 v2.0 --md

    Exits: 3 4 5 9
    """
    from dvcx.ops.params import params_diff as op

    face: Face = ctx.obj
    layout = Layout(face, md=md, csv=csv, precision=precision)
    project = face.project()
    with instead((a, b), os.path.lexists, NO_REVISION, "for a file: dvcx params diff --target {}"):
        result = op(project, a, b, targets=face.paths(project, targets or ()), all=all, deps=deps, remote=remote)
    values.compare(face, result, layout, change=False, noun="parameters")
