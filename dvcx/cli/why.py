"""dvcx why: the reasons behind a stage or a path, down to their source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import AskingRemote, app
from dvcx.cli.options import AskRemote, Whole
from dvcx.cli.status import check_name
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.causes import Cause
    from dvcx.ops.why import PathAnswer, StageAnswer, Why

app = app()


@app.command("why", cls=AskingRemote)
def why(
    ctx: Context,
    targets: Annotated[
        list[str],
        Argument(metavar="TARGET...", help="Stages, tracked paths, outputs, or files that a stage reads.", show_default=False),
    ],
    limit: Annotated[
        int, Option("--limit", click_type=Whole(), metavar="N", help="Tell at most N causes of one thing; 0 tells all.")
    ] = 10,
    remote: AskRemote = None,
) -> None:
    """Say why a stage would run or is fresh, down to the file, the parameter and the word of the command.

    Causes are followed upstream to where they begin. It says what would be restored from the cache and what would really
    run; for a path also who owns it and whether it is as recorded. It runs nothing. With --remote, results that the remote
    (any, without a name) knows count, too; without, nothing is asked over a network.

    Examples:
      dvcx why train
      dvcx why model.pkl
      dvcx why data/images --limit 0
      dvcx why train --remote
      dvcx why train --json

    Exits: 2 3 4 5 6 9 11
    """
    from dvcx.ops.why import why as op

    face: Face = ctx.obj
    project = face.project()
    check_name(project, targets, remote)
    result = op(project, face.targets(project, targets), limit=limit, remote=remote, emit=face.emit)
    face.answer(result, lambda: _lines(face, result))


def _lines(face: Face, result: Why) -> Iterable[str]:
    for path in result.paths:
        yield from _path(face, path)
    for stage in result.stages:
        yield from _stage(face, stage)
    if face.here and result.stages:
        yield "(reasons name paths from the project's root)"
    plans = {"would restore": result.restore, "would run": result.run, "might run": result.might_run}
    rest = {plan: [stage for stage in stages if stage not in _named(result)] for plan, stages in plans.items()}
    if any(rest.values()):
        yield ""
        yield "Before that:"
        rows = [(plan, _listed(stages)) for plan, stages in rest.items() if stages]
        for row, line in zip(rows, output.columns(rows, "  "), strict=True):
            yield f"  {face.paint.state(row[0])}{line[2 + len(row[0]) :]}"


def _named(result: Why) -> set[str]:
    return {stage.stage for stage in result.stages}


def _listed(stages: list[str], most: int = 8) -> str:
    more = f" and {len(stages) - most:,} more" if len(stages) > most else ""
    return ", ".join(stages[:most]) + more


def _path(face: Face, answer: PathAnswer) -> Iterator[str]:
    owners = {
        "pointer": f"tracked by {face.path(answer.by)}",
        "output": f"output of {display(answer.by)}",
        "read": f"read by {display(_listed(list(answer.read_by)))}",
    }
    inside = f", inside {face.path(answer.owner)}" if answer.owner not in ("", answer.path) else ""
    yield f"{face.path(answer.path)}: {owners[answer.kind]}{inside}; {display(answer.state)}"
    yield from _causes(answer.causes, "  ")
    if answer.kind == "pointer" and answer.read_by:
        yield f"  read by {display(_listed(list(answer.read_by)))}"


def _stage(face: Face, answer: StageAnswer) -> Iterator[str]:
    from dvcx.core.staleness import plan_text

    words = {"unchanged": "fresh: nothing to do"}
    text = words.get(answer.plan) or plan_text(answer.plan, answer.remote)
    plan = face.paint(text, output.STATE_STYLES.get(answer.plan, "green"))
    yield f"{display(answer.stage)}: {plan} ({face.path(answer.where)})"
    yield from _causes(answer.causes, "  ")


def _causes(causes: Iterable[Cause], indent: str) -> Iterator[str]:
    for cause in causes:
        because = ", because" if cause.kind == "upstream" and cause.causes else ""
        yield f"{indent}{display(cause.text)}{because}"
        yield from _causes(cause.causes, indent + "  ")
