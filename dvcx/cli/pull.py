"""dvcx pull: fetch, then check out."""

from __future__ import annotations

from typer import Context

from dvcx.cli.checkout import checkout_lines
from dvcx.cli.face import NOT_TRACKED, Face, instead
from dvcx.cli.fetch import fetch_lines
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Force, Globs, Jobs, NoWait, Remote, Targets

app = app()


@app.command("pull", cls=Verb)
def pull(
    ctx: Context,
    targets: Targets = None,
    globs: Globs = None,
    remote: Remote = "",
    jobs: Jobs = 0,
    force: Force = False,
    no_wait: NoWait = False,
) -> None:
    """Bring data from a remote and put it into the workspace: fetch, then checkout.

    A path inside a tracked directory, or --glob, brings a part of it and nothing else; a later `dvcx pull` the rest.

    Examples:
      dvcx pull
      dvcx pull data-input.csv images/cats
      dvcx pull --glob 'images/**/*.png'
      dvcx pull --remote backup --jobs 8

    Exits: 3 4 5 6 7 8 9 11
    """
    from dvcx.ops.pull import pull as op

    face: Face = ctx.obj
    project = face.project(jobs=jobs, no_wait=no_wait)
    chosen = face.targets(project, targets)
    with instead(targets or (), project.config.remotes().__contains__, NOT_TRACKED, "dvcx pull --remote {}"):
        result = op(project, chosen, globs=face.globs(globs), remote=remote, jobs=jobs, force=force, emit=face.emit)
    face.done(result, lambda: [*fetch_lines(result.fetched), *checkout_lines(face, result.checkout)])
