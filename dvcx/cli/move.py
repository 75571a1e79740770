"""dvcx move: rename tracked data together with its pointer."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context

from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import NoWait

app = app()


@app.command("move", cls=Verb)
def move(
    ctx: Context,
    source: Annotated[str, Argument(metavar="SOURCE", help="A tracked path.")],
    destination: Annotated[str, Argument(metavar="DESTINATION", help="Its new name, or a directory to move it into.")],
    no_wait: NoWait = False,
) -> None:
    """Rename tracked data together with its pointer and its line in .gitignore.

    A path inside a tracked directory moves inside that directory, whose rest need not be here.

    Examples:
      dvcx move data.csv raw.csv
      dvcx mv images archive/images
      dvcx mv images/cats/1.png images/dogs/

    Exits: 3 4 5 6 7 8 9 11
    """
    from dvcx.ops.move import move as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    here, there = face.paths(project, [source, destination])
    result = op(project, here, there, emit=face.emit)
    face.done(result, lambda: [f"moved {face.path(result.source)} to {face.path(result.destination)}"])
