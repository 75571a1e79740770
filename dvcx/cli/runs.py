"""dvcx runs: list the attempts to run stages that are remembered."""

from __future__ import annotations

import contextlib
from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Whole
from dvcx.errors import display

app = app()


@app.command("runs", cls=Verb)
def runs(
    ctx: Context,
    stage: Annotated[str, Argument(metavar="STAGE", help="Only runs of this stage.", show_default=False)] = "",
    limit: Annotated[
        int, Option("--limit", "-n", click_type=Whole(), metavar="N", help="So many at most; 0: all that are remembered.")
    ] = 20,
) -> None:
    """List the runs of stages, newest first: when, how long, and how they ended.

    A run is lost when dvcx itself was killed meanwhile. The newest 2,000 are remembered, on this machine alone.

    Examples:
      dvcx runs
      dvcx runs train --limit 0

    Exits: 3 5
    """
    from dvcx.ops.runs import runs as op

    face: Face = ctx.obj
    result = op(face.project(), stage, limit=limit)

    def lines() -> list[str]:
        rows = []
        for item in result.items:
            code = _ended(item.exit_code)
            again = "" if item.attempt == 1 else f"attempt {item.attempt}"
            spent = output.seconds(item.seconds).rjust(7)
            rows.append([item.run, item.state, spent, display(item.stage), code, again])
        return output.columns(rows) if rows else ["nothing has run here", *face.next("dvcx repro")]

    face.answer(result, lines)


def _ended(code: int | None) -> str:
    import signal

    with contextlib.suppress(ValueError):
        return f"exit {code}" if code and code > 0 else signal.Signals(-code).name if code else ""
    return f"signal {-(code or 0)}"
