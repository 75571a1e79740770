"""dvcx metrics: show metrics, and compare them between revisions or with the workspace."""

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
    Files,
    Layout,
    Limit,
    Markdown,
    Precision,
    Rev,
    Target,
)
from dvcx.core.metrics import PRECISION

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
    md: Markdown = False,
    csv: Csv = False,
    precision: Precision = 0,
    remote: Remote = "",
) -> None:
    """Show the metrics that dvcx.yaml declares: in JSON, YAML or TOML files, or the last row of CSV and TSV files.

    Examples:
      dvcx metrics show
      dvcx metrics show --all-branches --md
      dvcx metrics show --all-commits -n 100
      dvcx metrics show scores.json --rev v1.0 --rev v2.0

    Exits: 3 4 5 9
    """
    from dvcx.ops.metrics import metrics_show as op

    face: Face = ctx.obj
    layout = Layout(face, md=md, csv=csv, precision=precision, default=PRECISION)
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
        remote=remote,
    )
    values.show(face, result, layout, "metrics", changes=all_commits)


@app.command("diff", cls=Verb)
def diff(
    ctx: Context,
    a: A = "HEAD",
    b: B = "",
    targets: Target = None,
    all: All = False,
    md: Markdown = False,
    csv: Csv = False,
    precision: Precision = 0,
    remote: Remote = "",
) -> None:
    """Compare metrics between two revisions, or between a revision and the workspace. It exits with 0, whatever differs.

    Where dvcx.yaml says what is better (`meta: {better: {loss: lower}}`), changes are named and coloured so.

    Examples:
      dvcx metrics diff
      dvcx metrics diff main --md
      dvcx metrics diff v1.0 v2.0 --target scores.json

    Exits: 3 4 5 9
    """
    from dvcx.ops.metrics import metrics_diff as op

    face: Face = ctx.obj
    layout = Layout(face, md=md, csv=csv, precision=precision, default=PRECISION)
    project = face.project()
    with instead((a, b), os.path.lexists, NO_REVISION, "for a file: dvcx metrics diff --target {}"):
        result = op(project, a, b, targets=face.paths(project, targets or ()), all=all, remote=remote)
    values.compare(face, result, layout, change=True, noun="metrics")
