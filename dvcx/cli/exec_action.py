"""dvcx exec-action: run one action by its key."""

from __future__ import annotations

import os
from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.errors import NoProject, UsageError, display
from dvcx.project import Project

app = app()


@app.command("exec-action", cls=Verb)
def exec_action(
    ctx: Context,
    key: Annotated[str, Argument(metavar="KEY", help="The action's key; with --request a stage.")],
    remote: Annotated[
        str,
        Option("--remote", "-r", metavar="URL", help="A remote's URL, or its name in the project.", show_default=False),
    ] = "",
    cache: Annotated[
        str, Option("--cache", metavar="DIR", help="The cache; the project's when left out.", show_default=False)
    ] = "",
    request: Annotated[bool, Option("--request", help="Keep the request and the inputs of a stage, and print its key.")] = False,
    force: Annotated[bool, Option("--force", "-f", help="Run it though its result is known.")] = False,
) -> None:
    """Run one action: fetch its inputs by content into a private directory, run, keep the result in the cache and on the remote.

    It needs no clone and no pipeline. Credentials come from the environment: DVCX_REMOTE_EXEC_ENDPOINT and so on, or what
    the service's own tools read. What the command needs beside its inputs (programs, libraries) has to be there.

    Examples:
      dvcx exec-action --request train --remote origin
      dvcx exec-action KEY --cache /tmp/cache --remote s3://bucket/prefix

    Exits: 3 4 5 6 7 8 9 10
    """
    from dvcx.cli.face import working_directory
    from dvcx.ops.exec_action import exec_action as op
    from dvcx.ops.exec_action import make_request

    face: Face = ctx.obj
    project: Project | None = None
    try:
        project = face.project()
    except NoProject:
        if request or not cache:
            raise
    if request:
        if force or cache or project is None:
            raise UsageError("--request takes a stage and --remote only", "dvcx exec-action --request STAGE --remote NAME")
        result = make_request(project, key, remote=remote, emit=face.emit)
        face.answer(result, lambda: [result.key])
        return
    where = os.path.join(working_directory(), cache) if cache else ""
    result = op(key, project=project, remote=remote, cache=where, force=force, emit=face.emit)
    face.done(
        result,
        lambda: [
            f"{'the result is known already' if result.how == 'known' else 'ran in ' + output.seconds(result.seconds)}",
            *(f"  {display(out.path)}  {output.size(out.size)}" for out in result.outs),
        ],
    )
