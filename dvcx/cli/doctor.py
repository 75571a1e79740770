"""dvcx doctor: check the installation, the project and its remotes."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.doctor import Diagnosis

app = app()


@app.command("doctor", cls=Verb)
def doctor(ctx: Context) -> int:
    """Show versions, what the file system can link, where things are and whether the remotes answer.

    Exit with 1 when something needs repair. It works outside a project too. Put its output into a bug report: it
    holds no secrets.

    Examples:
      dvcx doctor
      dvcx doctor --json

    Exits: 1
    """
    from dvcx.ops.doctor import doctor as op

    face: Face = ctx.obj
    result = op(working_directory())

    def lines() -> list[str]:
        facts = {
            name: value for name, value in asdict(_brief(result)).items() if value and name not in ("warnings", "problems")
        }
        told = [f"{face.paint('warning:', 'yellow')} {display(text)}" for text in result.warnings]
        told += [f"{face.paint('problem:', 'red')} {display(text)}" for text in result.problems]
        return [*output.outline(facts), "", *(told or ["no problems found"])]

    face.answer(result, lines)
    return 1 if result.problems else 0


def _brief(result: Diagnosis) -> Diagnosis:
    """The facts without the words that stand among the problems, too."""
    remotes = tuple(replace(one, reason="") if one.state == "failed" else one for one in result.remotes)
    memories = {name: "not well" if f"{name}: {state}" in result.problems else state for name, state in result.memories.items()}
    return replace(result, remotes=remotes, memories=memories)
