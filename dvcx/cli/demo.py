"""dvcx demo: the whole of dvcx on a small example."""

from __future__ import annotations

import os
from typing import Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.errors import display
from dvcx.events import Emit, Event, Noted

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

    Exits: 5 8 10 11
    """
    from dvcx.ops.demo import demo as op

    face: Face = ctx.obj
    place = os.path.abspath(os.path.join(working_directory(), directory))
    # The steps are the answer: they go to stdout, unless JSON goes there.
    result = op(place, emit=face.emit if face.json or face.quiet else _teller(face))
    face.done(
        result,
        lambda: ["", f"The demo is in {display(directory)}. Try next, in its project directory:"]
        + [f"  {line}" for line in result.next],
    )


def _teller(face: Face) -> Emit:
    def tell(event: Event) -> None:
        if isinstance(event, Noted):
            line = display(event.message)
            style = {"$ ": "bold", "# ": "cyan"}.get(line[:2], "")
            output.write(face.paint(line, style) + "\n")

    return tell
