"""dvcx unprotect: make linked files safe to edit."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context

from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import NoWait

app = app()


@app.command("unprotect", cls=Verb)
def unprotect(
    ctx: Context,
    targets: Annotated[list[str], Argument(metavar="TARGET...", help="Tracked paths.")],
    no_wait: NoWait = False,
) -> None:
    """Replace files that are linked to the cache by copies of their own, so that editing them cannot harm the cache.

    Needed only where cache.link is hardlink or symlink.

    Examples:
      dvcx unprotect model.bin
      dvcx unprotect images/

    Exits: 3 4 5 7 8 9
    """
    from dvcx.ops.unprotect import unprotect as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    result = op(project, face.targets(project, targets), emit=face.emit)
    face.done(
        result,
        lambda: [f"unprotected {face.path(path)}" for path in result.paths] or ["nothing there is linked to the cache"],
    )
