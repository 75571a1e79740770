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

    Of a file above 8 MiB only the parts that changed are sent. An interrupted push goes on where it stopped.

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
    results = [f"sent {output.plural(result.actions, 'result')} of stages along"] if result.actions else []
    if not result.objects:
        return results or [f"{there} holds everything already"]
    would = "would send" if result.dry_run else "sent"
    line = f"{would} {output.plural(result.objects, 'object')} ({output.size(result.bytes)}) to {there}"
    # Said only where it is not all the same.
    told = []
    if result.new < 0.99 * result.bytes:
        told.append(f"{output.size(result.new)} new")
    if result.sent and (told or result.sent < 0.9 * result.bytes):
        told.append(f"{output.size(result.sent)} sent")
    if told:
        line += f": {', '.join(told)} ({100 * result.ratio:.3g} %)"
    return [line, *results]
