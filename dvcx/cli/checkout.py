"""dvcx checkout: put the recorded version of the data into the workspace."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import NOT_TRACKED, Face, instead
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, Force, Globs, NoWait, Targets
from dvcx.errors import NotFound, display
from dvcx.io import git

if TYPE_CHECKING:
    from dvcx.ops.checkout import CheckedOut
    from dvcx.project import Project

app = app()

SHOWN = 10


@app.command("checkout", cls=Verb)
def checkout(
    ctx: Context,
    targets: Targets = None,
    globs: Globs = None,
    force: Force = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Put the version of the data that the pointers and locks record into the workspace.

    Use it after `git checkout` or `git pull`. Changes that were never recorded are not overwritten; with --force they
    are saved in the cache first, and their ids printed.

    Examples:
      git checkout v1.0 && dvcx checkout
      dvcx checkout data-input.csv
      dvcx checkout --force images/
      dvcx checkout --glob 'images/**/*.png'

    Exits: 3 4 5 7 8 9 11
    """
    from dvcx.ops.checkout import checkout as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    with instead(targets or (), lambda word: _is_revision(project, word), NOT_TRACKED, "git checkout {}, then: dvcx checkout"):
        chosen = face.targets(project, targets)
        result = op(project, chosen, globs=face.globs(globs), force=force, dry_run=dry_run, emit=face.emit)
    face.done(result, lambda: checkout_lines(face, result, dry_run=dry_run))


def _is_revision(project: Project, word: str) -> bool:
    with suppress(NotFound):
        return project.git is not None and bool(git.resolve(project.git, word))
    return False


def checkout_lines(face: Face, result: CheckedOut, *, dry_run: bool = False) -> Iterable[str]:
    """The paths that changed, what was saved, and the totals."""
    shown = result.paths if face.verbose else result.paths[:SHOWN]
    for change in shown:
        yield f"{face.paint.state(change.state, 9)} {face.path(change.path)}"
    if len(result.paths) > len(shown):
        yield f"and {len(result.paths) - len(shown):,} more (--verbose shows all)"
    for kept in result.kept:
        yield f"saved     {face.path(kept.path)} as it was: dvcx cache get {display(kept.id)} FILE"
    if not result.placed and not result.removed:
        yield "everything is in place already"
        return
    done = [f"{output.plural(result.placed, 'file')} ({output.size(result.bytes)}) placed"] if result.placed else []
    done += [f"{output.plural(result.removed, 'file')} removed"] if result.removed else []
    yield f"{'dry run: ' if dry_run else ''}{', '.join(done)}"
