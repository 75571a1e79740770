"""dvcx push: send tracked data to a remote."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import NOT_TRACKED, Face, instead
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
    with instead(targets or (), project.config.remotes().__contains__, NOT_TRACKED, "dvcx push --remote {}"):
        result = op(project, face.targets(project, targets), remote=remote, jobs=jobs, dry_run=dry_run, emit=face.emit)
    face.done(result, lambda: [*_lines(result), *_note(face, result)])


def _note(face: Face, result: Pushed) -> Iterator[str]:
    """Nothing was to be sent, but something was edited: whoever expected it there is told why it is not."""
    if result.unrecorded:
        named = [face.path(path) for path in result.unrecorded[:3]]
        have = "path has" if len(result.unrecorded) == 1 else "paths have"
        yield f"{len(result.unrecorded):,} {have} edits that are not recorded yet and were not sent: {', '.join(named)}"
        yield from face.next(f"dvcx commit {' '.join(map(shlex.quote, named))}")


def _lines(result: Pushed) -> list[str]:
    there = f"remote '{display(result.remote)}'"
    results = [f"sent {output.plural(result.actions, 'stage result')}"] if result.actions else []
    if not result.objects:
        return results or [f"{there} holds everything already"]
    would = "would send" if result.dry_run else "sent"
    line = f"{would} {output.files(result.objects, result.listings)} ({output.size(result.bytes)}) to {there}"
    # Said only where it is not all the same.
    told = []
    if result.new < 0.99 * result.bytes:
        told.append(f"{output.size(result.new)} new")
    if result.sent and (told or result.sent < 0.9 * result.bytes):
        told.append(f"{output.size(result.sent)} sent")
    if told:
        line += f": {', '.join(told)} ({100 * result.ratio:.3g} %)"
    return [line, *results]
