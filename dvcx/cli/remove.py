"""dvcx remove: stop tracking."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, NoWait, Yes

app = app()


@app.command("remove", cls=Verb)
def remove(
    ctx: Context,
    targets: Annotated[list[str], Argument(metavar="TARGET...", help="Tracked paths or pointers.")],
    delete: Annotated[bool, Option("--delete", help="Delete the data in the workspace too.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_wait: NoWait = False,
) -> None:
    """Stop tracking data: its pointer and its line in .gitignore go, the data stays unless --delete is given.

    What was recorded before stays in the cache and on remotes, and in git's history.

    Examples:
      dvcx remove old.csv
      dvcx rm --delete --yes images/

    Exits: 3 4 5 7 8 9 11
    """
    from dvcx.ops.remove import remove as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    chosen = face.targets(project, targets)
    if delete and not dry_run:
        face.confirm(
            f"Delete {', '.join(map(face.path, chosen[:5]))}{' …' if len(chosen) > 5 else ''} from the workspace?",
            yes=yes,
        )
    result = op(project, chosen, keep_data=not delete, dry_run=dry_run, emit=face.emit)
    face.done(result, lambda: output.outline(result))
