"""dvcx gc: move what nothing needs any more to the trash."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, NoWait, Whole, Yes
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.collected import Collected

app = app()
SHOWN = 10
"""So many of the objects dropped are told by name."""


@app.command("gc", cls=Verb)
def gc(
    ctx: Context,
    undo: Annotated[bool, Option("--undo", help="Bring back what the last day's collections moved to the trash.")] = False,
    all_days: Annotated[bool, Option("--all", help="With --undo: bring back everything in the trash.")] = False,
    max_size: Annotated[
        str,
        Option(
            "--max-size",
            metavar="SIZE",
            help="Then drop from the cache what was used least recently and is on a remote, down to this: 50G.",
            show_default=False,
        ),
    ] = "",
    remote: Annotated[
        str, Option("--remote", "-r", metavar="NAME", help="Collect this remote instead of the cache.", show_default=False)
    ] = "",
    grace: Annotated[
        int, Option("--grace", click_type=Whole(), metavar="DAYS", help="What was written or used since stays.")
    ] = 14,
    abort: Annotated[
        bool, Option("--abort", help="With --remote: end a collection that was begun and left; what it moved comes back.")
    ] = False,
    force: Annotated[
        bool,
        Option(
            "--force",
            "-f",
            help="Pass over records and listings of this project that cannot be read; with --abort, over signs of life.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_wait: NoWait = False,
) -> None:
    """Move what no branch, tag, stash, reflog, index, work tree or workspace needs any more to the trash of the cache.

    It stays there for a week; --undo brings it back. When anything that has to be read cannot be read, nothing is moved.

    A remote is collected in two steps, --grace days apart: the first run marks what is unused, a later one moves what is
    still unused. The remote must be this project's alone: dvcx remote modify NAME gc true. One that was killed keeps others away
    for a day; --abort ends it, unless it gave a sign of life in the last quarter of an hour.

    Examples:
      dvcx gc --dry-run
      dvcx gc --max-size 50G
      dvcx gc --undo
      dvcx gc --remote origin

    Exits: 2 3 4 5 6 7 8 9 11
    """
    from dvcx.ops.gc import check
    from dvcx.ops.gc import gc as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    check(project, undo=undo, all_days=all_days, max_size=max_size, remote=remote, force=force, abort=abort)
    if not dry_run and not undo and not abort:
        where = f"remote '{display(remote)}'" if remote else display(project.cache_dir)
        face.confirm(f"Move what nothing needs from {where} to its trash?", yes=yes)
    result = op(
        project,
        dry_run=dry_run,
        undo=undo,
        all_days=all_days,
        max_size=max_size,
        remote=remote,
        grace=grace,
        force=force,
        abort=abort,
        emit=face.emit,
    )
    face.done(result, lambda: _lines(face, result, remote))


def _lines(face: Face, result: Collected, remote: str) -> Iterable[str]:
    would = "would be " if result.dry_run else ""
    for by in result.ended:
        yield f"{would}ended: the collection by {display(by)}"
    if result.ended and not result.restored:
        yield "it had moved nothing" if not result.dry_run else "it moved nothing"
    elif result.restored:
        verb = "would bring" if result.dry_run else "brought"
        files = output.plural(result.restored, "file")
        yield f"{verb} back {files} ({output.size(result.restored_bytes)}) from the trash of {result.day}"
    else:
        rows = [
            ("needed", output.plural(result.needed, "object"), ""),
            ("unused, too young", output.plural(result.young, "object"), output.size(result.young_bytes)),
            ("unused, in packs mostly needed", output.plural(result.sparse, "object"), ""),
            (f"{would}moved to the trash", output.plural(result.objects, "object"), output.size(result.bytes)),
            (f"{would}deleted for good", output.plural(result.expired, "file"), output.size(result.expired_bytes)),
            (f"{would}dropped, on a remote", output.plural(result.dropped, "object"), output.size(result.dropped_bytes)),
            (f"{would}marked as unused", output.plural(result.marked, "object"), ""),
        ]
        yield from output.columns(
            [row for number, row in enumerate(rows) if number in (0, 3) or not row[1].startswith("0 ")]
        )
    told = [file for file in result.files if face.verbose or file.why == "on a remote"]
    shown = told if face.verbose else told[:SHOWN]
    yield from output.columns([(file.why, file.name, output.size(file.size)) for file in shown], "  ")
    if len(told) > len(shown):
        yield f"  and {len(told) - len(shown):,} more (--verbose shows all)"
    if result.objects and not result.dry_run:
        yield f"the trash gives back {output.size(result.trash_bytes)} of disk with the first dvcx gc from {result.until} on"
        yield from face.next(f"dvcx gc --undo{f' --remote {display(remote)}' if remote else ''}  # brings it back")
    if result.ripe:
        yield f"what stays unused can go with a dvcx gc --remote {display(result.store)} from {result.ripe} on"
