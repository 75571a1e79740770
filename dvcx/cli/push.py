"""dvcx push: send tracked data to a remote."""

from __future__ import annotations

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, Jobs, NoWait, Remote, Targets

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
    face.done(result, lambda: output.outline(result))
