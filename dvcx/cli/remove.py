"""dvcx remove: stop tracking."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, NoWait, Yes
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.remove import Removed
    from dvcx.project import Project

app = app()


@app.command("remove", cls=Verb)
def remove(
    ctx: Context,
    targets: Annotated[list[str], Argument(metavar="TARGET...", help="Tracked paths, pointers or stage names.")],
    delete: Annotated[bool, Option("--delete", help="Delete the data in the workspace too.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_wait: NoWait = False,
) -> None:
    """Stop tracking data: its pointer and its line in .gitignore go, the data stays unless --delete is given.

    A stage's name removes that stage from dvcx.yaml and dvcx.lock. --delete deletes only what is in the cache.

    What was recorded before stays in the cache and on remotes, and in git's history.

    Examples:
      dvcx remove old.csv
      dvcx rm --delete --yes images/

    Exits: 3 4 5 6 7 8 9 11
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
    face.done(result, lambda: _lines(face, project, result, delete=delete))


def _lines(face: Face, project: Project, result: Removed, *, delete: bool) -> Iterable[str]:
    would = "would stop" if result.dry_run else "stopped"
    for item in result.items:
        what = f"stage {display(item.path)}" if item.kind == "stage" else face.path(item.path)
        verb = ("would remove" if result.dry_run else "removed") if item.kind == "stage" else f"{would} tracking"
        end = f"{'would delete' if result.dry_run else 'deleted'} {output.plural(item.deleted, 'file')}"
        stays = "; the data stays" if item.kind == "stage" or os.path.lexists(f"{project.root}/{item.path}") else ""
        yield f"{verb} {what}{f'; {end}' if delete else stays}"
