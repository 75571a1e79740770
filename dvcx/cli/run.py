"""dvcx run: write a stage and run its command."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import NoWait
from dvcx.cli.stage import (
    Deps,
    Desc,
    Metrics,
    MetricsNoCache,
    Name,
    Outs,
    OutsNoCache,
    Params,
    Plots,
    PlotsNoCache,
    StageForce,
    Wdir,
    command_text,
)
from dvcx.errors import display

app = app()


@app.command("run", cls=Verb, context_settings={"allow_interspersed_args": False})
def run(
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
    no_exec: Annotated[bool, Option("--no-exec", help="Only write the stage.")] = False,
    no_wait: NoWait = False,
) -> None:
    """Write a stage to the dvcx.yaml of the current directory, run its command, record what it read and wrote.

    The command's own options stay its own: dvcx stops reading options at the first word that is none. A command with
    pipes or wildcards is quoted as one word and goes to the shell as it is.

    Examples:
      dvcx run -n extract -d data.csv -d extract.py -o features.csv python extract.py
      dvcx run -n train -d features.csv -p train.lr -o model.bin -M metrics.json python train.py
      dvcx run -n count -d data.csv -o count.txt 'wc -l < data.csv > count.txt'

    Exits: 3 4 5 7 8 9 10 11
    """
    from dvcx.ops.run import run as op

    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    with face.stages():
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
            no_exec=no_exec,
            emit=face.emit,
        )

    def lines() -> list[str]:
        if result.run is None:
            return [f"wrote stage {display(result.stage.name)}", *face.next("dvcx repro")]
        told = f"{face.paint.state(result.run.how)} stage {display(result.stage.name)}"
        return [f"{told}  {output.seconds(result.run.seconds)}", *(face.next("git commit") if project.git else [])]

    face.done(result, lines)
