"""dvcx check: status as a gate."""

from __future__ import annotations

from collections.abc import Iterable

from typer import Context

from dvcx.cli.face import Face
from dvcx.cli.frame import AskingRemote, app
from dvcx.cli.options import AskRemote, Targets
from dvcx.cli.status import check_name, remote_lines, status_lines

app = app()


@app.command("check", cls=AskingRemote)
def check(ctx: Context, targets: Targets = None, remote: AskRemote = None) -> int:
    """Exit with 1 unless everything is up to date.

    It answers like `dvcx status`, but needs no data: pointers, locks and the files kept in git say enough. Only a
    stage that reads a single file inside a tracked directory needs `dvcx fetch` first. Made for CI and hooks.

    With --remote everything that is needed must be on the remote, too. A stage whose result is known is told as such, and
    fails the check until its lock says so.

    Examples:
      dvcx check
      dvcx check --quiet && echo in sync
      dvcx check --remote

    Exits: 1 3 4 5 6 9 11
    """
    from dvcx.ops.check import check as op

    face: Face = ctx.obj
    project = face.project()
    check_name(project, targets, remote)
    result = op(project, face.targets(project, targets), remote=remote, emit=face.emit)

    def lines() -> Iterable[str]:
        yield from status_lines(face, result, verb="check")
        yield from remote_lines(face, result)

    face.done(result, lines)
    return 0 if result.clean else 1
