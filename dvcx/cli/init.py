"""dvcx init: make a directory a project."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from typer import Argument, Context, Option

from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

app = app()
_RENAME = "git mv dvc.yaml dvcx.yaml  # it means the same"


@app.command("init", cls=Verb)
def init(
    ctx: Context,
    directory: Annotated[
        str, Argument(metavar="DIRECTORY", help="Where; made if it does not exist.", show_default=False)
    ] = ".",
    hash: Annotated[
        Literal["xxh128", "blake3"],
        Option("--hash", help="The algorithm that names objects. It cannot be changed later."),
    ] = "xxh128",
    no_git: Annotated[
        bool, Option("--no-git", help="Do without git: no versions, only the data and stages of now.")
    ] = False,
) -> None:
    """Make this directory, or DIRECTORY, a dvcx project.

    It creates .dvcx/ there. Normally that is the root of a git repository, or a directory inside one.

    Examples:
      dvcx init
      dvcx init analysis
      dvcx init --hash blake3

    Exits: 2 3 8 11
    """
    from dvcx.ops.init import init as op

    face: Face = ctx.obj
    root = os.path.abspath(os.path.join(working_directory(), directory))
    result = op(root, hash=hash, git=not no_git, emit=face.emit)
    face.done(
        result,
        lambda: [
            f"made a dvcx project in {display(result.root)}",
            *(f"  {display(path)}" for path in result.files if face.verbose),
            *face.next("dvcx add FILE"),
            *(face.next(_RENAME) if os.path.lexists(f"{result.root}/dvc.yaml") else ()),
        ],
    )
