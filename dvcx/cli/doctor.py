"""dvcx doctor: check the installation, the project and its remotes."""

from __future__ import annotations

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app

app = app()


@app.command("doctor", cls=Verb)
def doctor(ctx: Context) -> None:
    """Show versions, what the file system can link, where things are and whether the remotes answer.

    It works outside a project too. Put its output into a bug report: it holds no secrets.

    Examples:
      dvcx doctor
      dvcx doctor --json

    Exits:
    """
    from dvcx.ops.doctor import doctor as op

    face: Face = ctx.obj
    result = op(working_directory())
    face.answer(result, lambda: output.outline(result))
