"""dvcx drop: free the disk of data that a remote holds."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, NoWait, Remote
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.drop import Dropped

app = app()


@app.command("drop", cls=Verb)
def drop(
    ctx: Context,
    targets: Annotated[list[str], Argument(metavar="TARGET...", help="Tracked paths, or paths inside them.")],
    workspace: Annotated[bool, Option("--workspace", "-w", help="Delete the files in the workspace too.")] = False,
    verify: Annotated[bool, Option("--verify", help="Read everything back from the remote first.")] = False,
    remote: Remote = "",
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Take tracked data out of the cache when a remote holds all of it, which is looked at now. `dvcx pull` brings it back.

    What other tracked paths need as well stays. Pointers and locks stay, so the data is still tracked.

    Examples:
      dvcx drop images/
      dvcx drop --workspace --verify images/2019

    Exits: 2 3 4 5 6 7 8 9 11
    """
    from dvcx.ops.drop import drop as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    result = op(
        project,
        face.targets(project, targets),
        workspace=workspace,
        verify=verify,
        remote=remote,
        dry_run=dry_run,
        emit=face.emit,
    )
    face.done(result, lambda: _lines(face, result))


def _lines(face: Face, result: Dropped) -> Iterable[str]:
    would = "would drop" if result.dry_run else "dropped"
    for item in result.items:
        gone = f", {output.plural(item.deleted, 'file')} of the workspace too" if item.deleted else ""
        yield f"{would} {face.path(item.path)}, which remote '{display(item.remote)}' holds{gone}"
    yield f"{output.plural(result.objects, 'object')} ({output.size(result.bytes)}) left the cache" if not result.dry_run else (
        f"{output.plural(result.objects, 'object')} ({output.size(result.bytes)}) would leave the cache"
    )
    if result.shared:
        stay = "stays: another tracked path needs it" if result.shared == 1 else "stay: other tracked paths need them"
        yield f"{output.plural(result.shared, 'object')} {stay}"
    if not result.dry_run:
        yield from face.next(f"dvcx pull {shlex.join(face.path(item.path) for item in result.items)}  # brings it back")
