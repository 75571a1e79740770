"""dvcx add: track files and directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, Exact, Force, NoWait

if TYPE_CHECKING:
    from dvcx.ops.add import Added
    from dvcx.project import Project

app = app()

_WORDS = {"added": "tracked"}


@app.command("add", cls=Verb)
def add(
    ctx: Context,
    paths: Annotated[list[str], Argument(metavar="PATH...", help="Files, directories or quoted wildcards.")],
    force: Force = False,
    exact: Exact = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
) -> None:
    """Track files and directories.

    Their content goes into the cache, a small pointer file (PATH.dvcx) for git comes beside each, and git is told to
    ignore the data itself. Adding something again records how it is now. A path inside a tracked directory updates
    that directory, whose rest need not be here. Recorded files that were never pulled stay recorded.

    Examples:
      dvcx add data-input.csv
      dvcx add images/ model.bin
      dvcx add 'raw/*.parquet'
      dvcx add --dry-run images/

    Exits: 3 4 5 6 7 8 9 11
    """
    from dvcx.ops.add import add as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    result = op(project, face.paths(project, paths, expand=True), force=force, exact=exact, dry_run=dry_run, emit=face.emit)
    face.done(result, lambda: [*item_lines(face, result), *_next(face, project, result)])


def item_lines(face: Face, result: Added) -> list[str]:
    """One line per item: what happened, where, how much."""
    rows = []
    for item in result.items:
        files = f"  {output.plural(item.files, 'file')}" if item.kind == "tree" else ""
        files += f", {item.not_pulled:,} of them not pulled" if item.not_pulled else ""
        word = _WORDS.get(item.state, item.state)
        if result.dry_run and item.state != "unchanged":
            word = f"would be {word}"
        rows.append((word, face.path(item.path), output.size(item.size) + files))
    return [_tint(face, line) for line in output.columns(rows)]


def _tint(face: Face, line: str) -> str:
    word = line.split(" ", 1)[0]
    return face.paint.state(word) + line[len(word) :]


def _next(face: Face, project: Project, result: Added) -> list[str]:
    changed = [item for item in result.items if item.state != "unchanged"]
    if project.git is None or result.dry_run or not changed:
        return []
    if project.config.get("core.autostage"):
        return face.next("git commit")
    names: dict[str, None] = {}
    for item in changed:
        names[item.pointer] = None
        folder = item.path.rpartition("/")[0]
        names[f"{folder}/.gitignore" if folder else ".gitignore"] = None
    if len(names) > 6:
        return face.next("git add the new .dvcx and .gitignore files")
    import shlex

    return face.next("git add " + " ".join(shlex.quote(face.path(name)) for name in names))
