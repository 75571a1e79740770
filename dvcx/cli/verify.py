"""dvcx verify: run a stage on its declared inputs alone, and compare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.verify import Verified

app = app()


@app.command("verify", cls=Verb)
def verify(
    ctx: Context,
    stage: Annotated[str, Argument(metavar="STAGE", help="A stage, or a path it writes.")],
    tolerance: Annotated[
        float,
        Option(
            "--tolerance",
            metavar="X",
            help="Tables (csv, tsv, parquet) may differ by so much, relatively; it needs pandas.",
            show_default=False,
        ),
    ] = -1.0,
) -> int:
    """Run a stage again in a private directory that holds its declared inputs and nothing else, and compare what it writes.

    Nothing in the workspace changes. It exits with 0 when the outputs are those of the lock and no file of the project was
    read that no dependency declares, else with 1. Such files are named, also those that were only looked for: every Python
    that the command starts tells what it opens, and strace, where it is installed, what any program does. Files outside of
    the project, programs, libraries and the network are there as always.

    Examples:
      dvcx verify train
      dvcx verify --tolerance 1e-9 report

    Exits: 1 3 4 5 7 8 9 11
    """
    from dvcx.ops.verify import verify as op

    face: Face = ctx.obj
    project = face.project()
    (target,) = face.targets(project, [stage])
    result = op(project, target, tolerance=tolerance, emit=face.emit)
    face.done(result, lambda: _lines(face, result))
    return 0 if result.good else 1


def _lines(face: Face, result: Verified) -> Iterable[str]:
    for out in result.outs:
        yield f"{face.paint.state(out.how, 7)}  {display(out.path)}  {display(out.words)}".rstrip()
    if result.error:
        yield from result.error.split("\n")
    for path in result.missed:
        yield f"missed   {display(path)}  no dependency declares it"
    for path in result.read:
        yield f"read     {display(path)}  no dependency declares it; read from the project itself"
    name = display(result.stage)
    if not result.seen:
        yield "nobody saw what it opens (it runs no Python, and strace is not here): inputs it does not declare may go unnamed"
    if result.good and result.missed:
        yield f"{name}: what is recorded comes out, though what it missed may change that"
    elif result.good:
        yield f"{name}: its declared inputs lead to what is recorded ({output.seconds(result.seconds)})"
    elif result.read and not result.error and all(out.how != "differs" for out in result.outs):
        yield f"{name}: the same comes out, but it reads more than it declares"
    elif result.error:
        yield f"{name}: it does not run on its declared inputs alone"
    else:
        yield f"{name}: the same inputs lead to something else: it is not deterministic, or reads more than it declares"
