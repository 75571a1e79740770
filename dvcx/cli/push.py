"""dvcx push: send tracked data to a remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, Jobs, NoWait, Remote, Targets
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.push import Pushed

app = app()


@app.command("push", cls=Verb)
def push(
    ctx: Context,
    targets: Targets = None,
    remote: Remote = "",
    jobs: Jobs = 0,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Send the data that pointers and locks name to a remote; only what it does not hold yet.

    Examples:
      dvcx push
      dvcx push --remote backup images/
      dvcx push --dry-run

    Exits: 3 4 5 6 7 8 9
    """
    from dvcx.ops.push import push as op

    face: Face = ctx.obj
    project = face.project(jobs=jobs, no_wait=no_wait)
    result = op(project, face.targets(project, targets), remote=remote, jobs=jobs, dry_run=dry_run, emit=face.emit)
    face.done(result, lambda: _lines(result))


def _lines(result: Pushed) -> list[str]:
    there = f"remote '{display(result.remote)}'"
    if not result.objects:
        return [f"{there} holds everything already"]
    would = "would send" if result.dry_run else "sent"
    stored = f", stored as {output.size(result.sent)}" if result.sent and result.sent < 0.9 * result.bytes else ""
    return [f"{would} {output.plural(result.objects, 'object')} ({output.size(result.bytes)}{stored}) to {there}"]
