"""dvcx repro: run the stages that are stale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import DryRun, NoWait, Targets, Whole
from dvcx.errors import DvcxError, RemoteFailed, StageFailed, UsageError, display

if TYPE_CHECKING:
    from dvcx.ops.repro import Reproduced, StageRun

app = app()

QUIET_STATES = ("unchanged", "fresh")
SHOWN = 10


@app.command("repro", cls=Verb)
def repro(
    ctx: Context,
    targets: Targets = None,
    dry_run: DryRun = False,
    force: Annotated[bool, Option("--force", "-f", help="Run stages that are up to date too.")] = False,
    single_item: Annotated[
        bool, Option("--single-item", "-s", help="Only the stages named, not what they depend on.")
    ] = False,
    downstream: Annotated[bool, Option("--downstream", help="The stages named and all that depend on them.")] = False,
    keep_going: Annotated[
        bool, Option("--keep-going", "-k", help="After a failure go on with stages that do not need it.")
    ] = False,
    jobs: Annotated[
        int,
        Option(
            "--jobs", "-j", click_type=Whole(), metavar="N", help="Stages at a time; 0: one for each core.", show_default=False
        ),
    ] = 0,
    interactive: Annotated[
        bool,
        Option("--interactive", "-i", help="One stage at a time, each with the terminal as its input, also for a debugger."),
    ] = False,
    pull: Annotated[
        bool,
        Option("--pull", help="Fetch what is needed: the outputs asked for, and what a command reads that has to run."),
    ] = False,
    runner: Annotated[
        str, Option("--runner", metavar="NAME", help="What runs stages: here, local; else core.runner.", show_default=False)
    ] = "",
    no_wait: NoWait = False,
) -> int:
    """Run the stages that are stale, side by side where they can, and record each one.

    A stage whose inputs come out as they were is not run. A result that is known already is restored instead of
    computed. When a command fails, its old outputs are put back. Ctrl-C lets running stages finish and starts no more;
    Ctrl-C again ends them. With -i, or -j 1, the command that runs has the terminal, with its Ctrl-C.

    Examples:
      dvcx repro
      dvcx repro train
      dvcx repro -j 4 --keep-going
      dvcx repro -i train
      dvcx repro --dry-run
      dvcx repro --pull report
      dvcx repro --downstream extract
      dvcx repro --runner local

    Exits: 3 4 5 6 7 8 9 10 11
    """
    from dvcx.ops.repro import repro as op

    if interactive and jobs > 1:
        raise UsageError("--interactive runs one stage at a time", "leave --jobs away")
    face: Face = ctx.obj
    project = face.project(no_wait=no_wait)
    if interactive and runner not in ("", "here"):
        raise UsageError("--interactive runs stages here, at this terminal", "leave --runner away")
    here = (runner or project.config.get("core.runner")) == "here"
    with face.stages():
        result = op(
            project,
            face.targets(project, targets),
            dry_run=dry_run,
            force=force,
            single_item=single_item,
            downstream=downstream,
            keep_going=keep_going,
            jobs=jobs,
            pull=pull,
            interactive=interactive or (jobs == 1 and here),
            runner=runner,
            emit=face.emit,
        )
    face.done(result, lambda: _lines(face, result, dry_run=dry_run))
    if result.failed and not face.json:
        raise _failure(result)
    return result.code


def _failure(result: Reproduced) -> DvcxError:
    """The stages' own errors, or the remote's, as one, with the first hint."""
    errors = [run.error.partition("\n") for run in result.runs if run.how == "failed"]
    return (RemoteFailed if result.code == RemoteFailed.exit_code else StageFailed)(
        "\n".join(message for message, _, _ in errors), next((hint for _, _, hint in errors if hint), "")
    )


def _lines(face: Face, result: Reproduced, *, dry_run: bool) -> Iterable[str]:
    told = [run for run in result.runs if face.verbose or run.how not in QUIET_STATES or run.fetched]
    width = max((len(run.how) for run in told), default=0)
    name_width = max((len(display(run.stage)) for run in told), default=0)
    for run in told:
        spent = "" if dry_run or not run.seconds else output.seconds(run.seconds)
        yield f"{face.paint.state(run.how, width)}  {display(run.stage).ljust(name_width)}  {spent}".rstrip()
        if dry_run or face.verbose:
            for reason in run.reasons:
                yield f"    {display(reason)}"
            yield from _places(face, run)
    if not result.runs:
        yield "there are no stages"
        yield from face.next("dvcx run -n NAME -d INPUT -o OUTPUT COMMAND")
    elif not told:
        yield f"everything is up to date ({output.plural(len(result.runs), 'stage')})"
    elif len(told) < len(result.runs):
        rest = len(result.runs) - len(told)
        yield f"{output.plural(rest, 'stage')} {'was' if rest == 1 else 'were'} up to date"


def _places(face: Face, run: StageRun) -> Iterable[str]:
    """Where a known result comes from or stays, and what is fetched to be read."""
    if run.remote:
        yield f"    its outputs {'stay on' if run.how == 'known' else 'come from'} remote '{display(run.remote)}'"
    elif run.how == "known":
        yield "    its outputs stay in the cache"
    if run.fetched:
        more = f" and {len(run.fetched) - SHOWN:,} more" if len(run.fetched) > SHOWN else ""
        yield f"    fetched: {', '.join(map(face.path, run.fetched[:SHOWN]))}{more}"
    if run.error and run.how not in ("failed", "skipped"):
        yield f"    {display(run.error)}"
