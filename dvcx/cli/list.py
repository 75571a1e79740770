"""dvcx list: what is tracked."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app

app = app()


@app.command("list", cls=Verb)
def list_(
    ctx: Context,
    target: Annotated[
        str, Argument(metavar="TARGET", help="Only this path and what is below it.", show_default=False)
    ] = "",
    rev: Annotated[
        str, Option("--rev", metavar="REV", help="At this revision instead of the workspace.", show_default=False)
    ] = "",
    recursive: Annotated[bool, Option("--recursive", "-R", help="Every file of tracked directories.")] = False,
) -> None:
    """List what is tracked, here or at a git revision.

    Examples:
      dvcx list
      dvcx list --recursive images/
      dvcx ls --rev v1.0

    Exits: 3 4 5 6 9
    """
    from dvcx.ops.list import list_ as op

    face: Face = ctx.obj
    project = face.project()
    chosen = face.paths(project, [target])[0] if target else ""
    result = op(project, chosen, rev=rev, recursive=recursive, emit=face.emit)

    def lines() -> list[str]:
        rows = []
        for item in result.items:
            folder = item.kind in ("tree", "dir")
            row = [
                output.size(item.size).rjust(9),
                output.plural(item.files, "file") if folder else "",
                face.path(item.path) + "/" * folder,
            ]
            rows.append(row + ([item.id, item.tracked_by] if face.verbose else []))
        return output.columns(rows) if rows else ["nothing is tracked here"]

    face.answer(result, lines)
