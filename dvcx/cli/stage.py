"""dvcx stage: add and list stages; and the options that describe a stage."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import NoWait
from dvcx.errors import display

app = app()

_Paths = list[str] | None
Name = Annotated[str, Option("--name", "-n", metavar="NAME", help="The stage's name.")]
Deps = Annotated[_Paths, Option("--dep", "-d", metavar="PATH", help="It reads this.", show_default=False)]
Outs = Annotated[_Paths, Option("--out", "-o", metavar="PATH", help="It writes this.", show_default=False)]
OutsNoCache = Annotated[
    _Paths, Option("--out-no-cache", "-O", metavar="PATH", help="It writes this; git keeps it.", show_default=False)
]
Params = Annotated[
    _Paths,
    Option(
        "--param",
        "-p",
        metavar="[FILE:]KEY,...",
        help="It reads these values, of params.yaml or FILE.",
        show_default=False,
    ),
]
Metrics = Annotated[
    _Paths, Option("--metric", "-m", metavar="PATH", help="It writes this metrics file.", show_default=False)
]
MetricsNoCache = Annotated[
    _Paths,
    Option(
        "--metric-no-cache", "-M", metavar="PATH", help="It writes this metrics file; git keeps it.", show_default=False
    ),
]
Plots = Annotated[_Paths, Option("--plot", metavar="PATH", help="It writes this, to be drawn.", show_default=False)]
PlotsNoCache = Annotated[
    _Paths, Option("--plot-no-cache", metavar="PATH", help="It writes this, to be drawn; git keeps it.", show_default=False)
]
Wdir = Annotated[
    str,
    Option(
        "--wdir",
        "-w",
        metavar="DIRECTORY",
        help="Where the command runs and what its paths are relative to.",
        show_default=False,
    ),
]
Desc = Annotated[str, Option("--desc", metavar="TEXT", help="A sentence for people.", show_default=False)]
StageForce = Annotated[bool, Option("--force", "-f", help="Replace a stage of that name.")]


@app.command("add", cls=Verb, context_settings={"allow_interspersed_args": False})
def add(
    ctx: Context,
    command: Annotated[
        list[str], Argument(metavar="COMMAND...", help="The command; the first word that is no option begins it.")
    ],
    name: Name,
    deps: Deps = None,
    outs: Outs = None,
    outs_no_cache: OutsNoCache = None,
    params: Params = None,
    metrics: Metrics = None,
    metrics_no_cache: MetricsNoCache = None,
    plots: Plots = None,
    plots_no_cache: PlotsNoCache = None,
    wdir: Wdir = "",
    desc: Desc = "",
    force: StageForce = False,
    no_wait: NoWait = False,
) -> None:
    """Write a stage to the dvcx.yaml of the current directory without running it.

    Examples:
      dvcx stage add -n extract -d data.csv -d extract.py -o features.csv python extract.py

    Exits: 3 4 5 7 8 9 11
    """
    from dvcx.ops.stage import add as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    result = op(
        project,
        name,
        command_text(command),
        deps=deps or (),
        outs=outs or (),
        outs_no_cache=outs_no_cache or (),
        params=params or (),
        metrics=metrics or (),
        metrics_no_cache=metrics_no_cache or (),
        plots=plots or (),
        plots_no_cache=plots_no_cache or (),
        wdir=wdir,
        desc=desc,
        force=force,
        directory=face.here,
        emit=face.emit,
    )
    face.done(result, lambda: [f"wrote stage {display(name)}", *face.next("dvcx repro")])


@app.command("list", cls=Verb)
def list_(ctx: Context) -> None:
    """List the stages of all dvcx.yaml files.

    Examples:
      dvcx stage list

    Exits: 3 4 9 11
    """
    from dvcx.ops.stage import list_ as op

    face: Face = ctx.obj
    result = op(face.project())

    def lines() -> list[str]:
        rows = []
        for item in result.stages:
            command = item.cmd if isinstance(item.cmd, str) else " && ".join(item.cmd)
            rows.append((item.name, item.desc or command))
        return (
            output.columns(rows) if rows else ["there are no stages", *face.next("dvcx run -n NAME -d INPUT -o OUTPUT COMMAND")]
        )

    face.answer(result, lines)


def command_text(words: Sequence[str]) -> str:
    """The shell command for `words`: one word is a command line already, several are quoted and joined."""
    return words[0] if len(words) == 1 else shlex.join(words)
