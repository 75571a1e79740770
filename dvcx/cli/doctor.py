"""dvcx doctor: check the installation, the project and its remotes."""

from __future__ import annotations

from dataclasses import asdict

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

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

    def lines() -> list[str]:
        facts = {
            name: value for name, value in asdict(result).items() if value and name not in ("warnings", "problems")
        }
        told = [f"{face.paint('warning:', 'yellow')} {display(text)}" for text in result.warnings]
        told += [f"{face.paint('problem:', 'red')} {display(text)}" for text in result.problems]
        return [*output.outline(facts), "", *(told or ["no problems found"])]

    face.answer(result, lines)
