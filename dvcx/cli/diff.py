"""dvcx diff: compare tracked data between revisions or with the workspace."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import NO_REVISION, Face, instead
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.core.changes import Change
    from dvcx.ops.diff import Diff

app = app()


@app.command("diff", cls=Verb)
def diff(
    ctx: Context,
    a: Annotated[str, Argument(metavar="A", help="The older revision.", show_default=True)] = "HEAD",
    b: Annotated[
        str, Argument(metavar="B", help="The newer revision; the workspace when left out.", show_default=False)
    ] = "",
    targets: Annotated[
        list[str] | None,
        Option("--target", "-t", metavar="PATH", help="Only this path; may be repeated.", show_default=False),
    ] = None,
) -> None:
    """Compare tracked data between two revisions, or between a revision and the workspace.

    Examples:
      dvcx diff
      dvcx diff HEAD~1
      dvcx diff v1.0 v2.0 --target images/

    Exits: 3 4 5 9
    """
    from dvcx.ops.diff import diff as op

    face: Face = ctx.obj
    project = face.project()
    with instead((a, b), os.path.lexists, NO_REVISION, "for a path: dvcx diff --target {}"):
        result = op(project, a, b, targets=face.targets(project, targets), emit=face.emit)
    face.answer(result, lambda: _lines(face, result))


def _lines(face: Face, result: Diff) -> Iterable[str]:
    other = display(result.b) or "the workspace"
    if not result.changes:
        yield f"no difference between {display(result.a)} and {other}"
        return
    rows = [(change.state, _name(face, change), _sizes(change)) for change in result.changes]
    for row, line in zip(rows, output.columns(rows), strict=True):
        yield face.paint.state(row[0]) + line[len(row[0]) :]
    counts = {"added": result.added, "deleted": result.deleted, "modified": result.modified, "renamed": result.renamed}
    told = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    yield ""
    yield f"{told}; {output.delta(result.size_delta)} from {display(result.a)} to {other}"


def _name(face: Face, change: Change) -> str:
    name = face.path(change.path)
    return f"{face.path(change.old_path)} → {name}" if change.old_path and change.old_path != change.path else name


def _sizes(change: Change) -> str:
    if change.state == "added":
        return output.size(change.new_size)
    if change.state == "deleted" or change.old_size == change.new_size:
        return output.size(change.old_size)
    old, new = output.size(change.old_size), output.size(change.new_size)
    return f"{old} → {new}" if old != new else f"{change.old_size:,} → {change.new_size:,} bytes"
