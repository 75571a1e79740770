"""dvcx cache: look at the local cache."""

from __future__ import annotations

import os
from typing import Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

app = app()


@app.command("size", cls=Verb)
def size(ctx: Context) -> None:
    """Say how much the cache holds.

    Examples:
      dvcx cache size

    Exits: 3 4 8
    """
    from dvcx.ops.cache import size as op

    face: Face = ctx.obj
    result = op(face.project())
    face.answer(result, lambda: output.outline(result))


@app.command("dir", cls=Verb)
def directory(ctx: Context) -> None:
    """Print where the cache is. `dvcx config set --local cache.dir DIRECTORY` moves it.

    Examples:
      dvcx cache dir

    Exits: 3 4
    """
    face: Face = ctx.obj
    where = face.project().cache_dir
    face.answer({"dir": where}, lambda: [display(where)])


@app.command("get", cls=Verb)
def get(
    ctx: Context,
    id: Annotated[str, Argument(metavar="ID", help="An object's id, as checkout --force prints it.")],
    destination: Annotated[str, Argument(metavar="FILE", help="Where to write it; it must not exist.")],
) -> None:
    """Write one object of the cache to a file.

    Examples:
      dvcx cache get xxh128:5f3c0000000000000000000000000000 rescued.csv

    Exits: 3 4 5 8 11
    """
    from dvcx.ops.cache import get as op

    face: Face = ctx.obj
    result = op(face.project(), id, os.path.abspath(os.path.join(working_directory(), destination)))
    face.done(result, lambda: [f"wrote {display(destination)}"])
