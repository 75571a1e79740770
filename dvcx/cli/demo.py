"""dvcx demo: the whole of dvcx on a small example."""

from __future__ import annotations

import os
from typing import Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app

app = app()


@app.command("demo", cls=Verb)
def demo(
    ctx: Context,
    directory: Annotated[str, Argument(metavar="DIRECTORY", help="A new directory to make it in.")] = "dvcx-demo",
) -> None:
    """Make a small project in a new directory and take it through everything: track, run, push, change, rerun.

    Each command is printed before it runs. Nothing leaves the directory; the remote is a directory too.

    Examples:
      dvcx demo
      dvcx demo somewhere/else

    Exits: 8 10 11
    """
    from dvcx.ops.demo import demo as op

    face: Face = ctx.obj
    with face.stages():
        result = op(os.path.abspath(os.path.join(working_directory(), directory)), emit=face.emit)
    face.done(result, lambda: output.outline(result))
