"""dvcx show: everything that is remembered of one run."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

app = app()


@app.command("show", cls=Verb)
def show(
    ctx: Context,
    run: Annotated[
        str, Argument(metavar="RUN", help="The name of a run, its beginning or end, or a stage for its newest run.")
    ],
) -> None:
    """Show one run in full: command, reasons, exit code, time, memory, machine, commit, interpreter.

    Peak memory is that of all processes of the command together; the environment's variables are never recorded.

    Examples:
      dvcx show train
      dvcx show 20260314T150926.535897-9a3f

    Exits: 2 3 5
    """
    from dvcx.ops.show import show as op

    face: Face = ctx.obj
    result = op(face.project(), run)

    def lines() -> list[str]:
        busy = f"user {output.seconds(result.user_seconds)}, system {output.seconds(result.system_seconds)}"
        rows = [
            ["run", result.run],
            ["stage", display(result.stage)],
            ["state", result.state],
            ["began", result.began],
            *(["command", display(line)] for line in result.command),
            *(["because", display(reason)] for reason in result.reasons),
            ["attempt", str(result.attempt) if result.attempt > 1 else ""],
            ["exit code", "" if result.exit_code is None else str(result.exit_code)],
            ["error", display(result.error)],
            ["time", f"{output.seconds(result.seconds)} ({busy})"],
            ["peak memory", output.size(result.memory) if result.memory else ""],
            ["host", display(result.host)],
            ["commit", result.commit],
            ["interpreter", display(f"{result.interpreter} {result.version}".strip())],
            ["packages", result.packages],
            ["kept outputs", display(result.kept)],
            ["log", display(result.log)],
        ]
        return output.columns([row for row in rows if row[1]])

    face.answer(result, lines)
