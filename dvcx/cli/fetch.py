"""dvcx fetch: bring tracked data from a remote into the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import NOT_TRACKED, Face, instead
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Globs, Jobs, NoWait, Remote, Targets
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.fetch import Fetched

app = app()


@app.command("fetch", cls=Verb)
def fetch(
    ctx: Context,
    targets: Targets = None,
    globs: Globs = None,
    remote: Remote = "",
    jobs: Jobs = 0,
    no_wait: NoWait = False,
) -> None:
    """Bring the data that pointers and locks name from a remote into the cache, without touching the workspace.

    Everything that arrives is checked against its size, its id and its seal.

    Examples:
      dvcx fetch
      dvcx fetch --remote backup data-input.csv
      dvcx fetch --glob 'images/**/*.png'

    Exits: 3 4 5 6 7 8 9
    """
    from dvcx.ops.fetch import fetch as op

    face: Face = ctx.obj
    project = face.project(jobs=jobs, no_wait=no_wait)
    with instead(targets or (), project.config.remotes().__contains__, NOT_TRACKED, "dvcx fetch --remote {}"):
        result = op(project, face.targets(project, targets), globs=face.globs(globs), remote=remote, jobs=jobs, emit=face.emit)
    face.done(result, lambda: fetch_lines(result))


def fetch_lines(result: Fetched) -> list[str]:
    """What arrived, from where, and what was repaired."""
    there = f"remote '{display(result.remote)}'" if result.remote else "the remote"
    if not result.objects and not result.repaired:
        return ["the cache holds everything already"]
    lines = []
    if result.objects:
        lines.append(f"fetched {output.files(result.objects, result.listings)} ({output.size(result.bytes)}) from {there}")
    if result.repaired:
        lines.append(
            f"replaced {output.plural(result.repaired, 'corrupt object')} in the cache; the bad bytes are in quarantine"
        )
    return lines
