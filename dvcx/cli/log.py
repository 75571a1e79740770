"""dvcx log: what a stage's command printed."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.errors import display
from dvcx.events import Noted

app = app()


@app.command("log", cls=Verb)
def log(
    ctx: Context,
    stage: Annotated[
        str, Argument(metavar="STAGE", help="The newest run of this stage, not of all.", show_default=False)
    ] = "",
) -> None:
    """Print what a stage's command printed when it ran last, stdout and stderr as they came.

    Examples:
      dvcx log train
      dvcx log

    Exits: 3 5
    """
    from dvcx.ops.log import log as op

    face: Face = ctx.obj
    result = op(face.project(), stage)
    if result.skipped:
        face.emit(Noted(f"the first {output.size(result.skipped)} are left out; all of it is in {display(result.path)}"))
    if not result.text:
        face.emit(Noted(f"the command of {display(result.stage)} printed nothing"))
    # As the command wrote it: escapes and all.
    face.answer(result, lambda: result.text.removesuffix("\n").split("\n") if result.text else [])
