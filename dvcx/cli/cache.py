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

    def lines() -> list[str]:
        rows = [
            ("in all", output.plural(result.objects, "object"), output.size(result.bytes)),
            ("one by one", output.plural(result.loose, "object"), output.size(result.loose_bytes)),
            (
                f"in {output.plural(result.packs, 'pack')}",
                output.plural(result.packed, "object"),
                output.size(result.pack_bytes),
            ),
            ("free on its disk", "", output.size(result.free_bytes)),
        ]
        if result.trash_bytes:
            rows.append(("in the trash", "", output.size(result.trash_bytes)))
        if result.quarantined:
            rows.append(("in quarantine", output.plural(result.quarantined, "corrupt object"), ""))
        return [display(result.dir), *output.columns(rows, "  ")]

    face.answer(result, lines)


@app.command("dir", cls=Verb)
def directory(ctx: Context) -> None:
    """Print where the cache is. `dvcx config set --local cache.dir DIRECTORY` moves it.

    Examples:
      dvcx cache dir

    Exits: 3 4
    """
    from dvcx.ops.cache import directory as op

    face: Face = ctx.obj
    result = op(face.project())
    face.answer(result, lambda: [display(result.dir)])


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
