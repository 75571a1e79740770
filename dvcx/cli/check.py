"""dvcx check: status as a gate."""

from __future__ import annotations

from collections.abc import Iterable

from typer import Context

from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Targets
from dvcx.cli.status import status_lines

app = app()


@app.command("check", cls=Verb)
def check(ctx: Context, targets: Targets = None) -> int:
    """Exit with 1 unless everything is up to date.

    It answers like `dvcx status`, but needs no data: pointers, locks and the files kept in git say enough. Only a
    stage that reads a single file inside a tracked directory needs `dvcx fetch` first. Made for CI and hooks.

    Examples:
      dvcx check
      dvcx check --quiet && echo in sync

    Exits: 1 3 4 9 11
    """
    from dvcx.ops.check import check as op

    face: Face = ctx.obj
    project = face.project()
    result = op(project, face.targets(project, targets), emit=face.emit)

    def lines() -> Iterable[str]:
        yield from status_lines(face, result)
        if any(reason.endswith(": is missing") for stage in result.stages for reason in stage.reasons):
            yield from face.next("dvcx fetch, if what is missing lies inside a tracked directory")

    face.done(result, lines)
    return 0 if result.clean else 1
