"""dvcx commit: record tracked data as it is now."""

from __future__ import annotations

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, Exact, NoWait, Targets
from dvcx.errors import display

app = app()


@app.command("commit", cls=Verb)
def commit(
    ctx: Context, targets: Targets = None, exact: Exact = False, dry_run: DryRun = False, no_wait: NoWait = False
) -> None:
    """Record tracked data and stages' outputs as they are now.

    For tracked data it is `dvcx add` again. For a stage it writes the lock as if its command had just run: use it only
    when the outputs really are what the command would write. Recorded files that were never pulled stay recorded.

    Examples:
      dvcx commit
      dvcx commit data-input.csv
      dvcx commit train

    Exits: 3 4 5 6 7 8 9 11
    """
    from dvcx.ops.commit import commit as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    result = op(project, face.targets(project, targets), exact=exact, dry_run=dry_run, emit=face.emit)

    def lines() -> list[str]:
        would = "would record" if dry_run else "recorded"
        rows = [
            (would, face.path(item.path), output.size(item.size)) for item in result.items if item.state != "unchanged"
        ]
        rows += [(would, display(stage), "stage, as if it had run") for stage in result.stages]
        return output.columns(rows) if rows else ["nothing changed since it was recorded"]

    face.done(result, lines)
