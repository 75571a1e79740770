"""dvcx status: what changed, what is stale, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Targets
from dvcx.errors import display

if TYPE_CHECKING:
    from dvcx.ops.status import Status

app = app()


@app.command("status", cls=Verb)
def status(ctx: Context, targets: Targets = None) -> None:
    """Say what changed since it was recorded, and which stages are stale and why.

    It reads no data that has not been touched and changes nothing. It exits with 0 whatever the answer; `dvcx check`
    exits with 1 when something is not up to date.

    Examples:
      dvcx status
      dvcx status data/ train
      dvcx status --json

    Exits: 3 4 5 9 11
    """
    from dvcx.ops.status import status as op

    face: Face = ctx.obj
    project = face.project()
    result = op(project, face.targets(project, targets), emit=face.emit)
    face.answer(result, lambda: status_lines(face, result))


def status_lines(face: Face, result: Status) -> Iterable[str]:
    """The answer in groups: data, then stages with their reasons, then what to do."""
    from dvcx.core.staleness import NOT_AS_RECORDED

    stages = [stage for stage in result.stages if stage.state != "fresh"]
    if result.data:
        yield "Changed data:"
        rows = [(change.state, face.path(change.path), change.text) for change in result.data]
        for row, line in zip(rows, output.columns(rows, "  "), strict=True):
            yield f"  {face.paint.state(row[0])}{line[2 + len(row[0]) :]}"
    if stages:
        if result.data:
            yield ""
        yield "Stages to run:"
        for stage in stages:
            yield f"  {face.paint.state(stage.state)}  {display(stage.stage)}"
            for reason in stage.reasons:
                yield f"    {display(reason)}"
    if result.clean:
        if not result.tracked and not result.stages:
            yield "nothing is tracked yet"
            yield from face.next("dvcx add FILE")
        else:
            counts = [f"{result.tracked:,} tracked"] if result.tracked else []
            counts += [output.plural(len(result.stages), "stage")] if result.stages else []
            yield f"everything is up to date ({', '.join(counts)})"
        return
    yield ""
    states = {change.state for change in result.data}
    if "missing" in states:
        yield from face.next("dvcx pull to bring what is missing")
    elif stages:
        differ = any(NOT_AS_RECORDED in reason for stage in stages for reason in stage.reasons)
        other = " to make outputs anew, or dvcx checkout to put the recorded ones in place" if differ else ""
        yield from face.next(f"dvcx repro{other}")
    if any(change.text.startswith("cache object modified") for change in result.data):
        yield from face.next("dvcx fsck --repair to have the recorded bytes in the cache again; the edited ones are kept")
    edited = [change.path for change in result.data if change.state == "modified"]
    if edited:
        import shlex

        # Named, or commit would record the stages that read them as if they had run.
        path = shlex.quote(face.path(edited[0])) if len(edited) == 1 else "PATH..."
        what, them = ("change", "it") if len(edited) == 1 else ("changes", "them")
        yield from face.next(f"dvcx commit {path} to record the {what}, or dvcx checkout --force {path} to undo {them}")
    if "deleted" in states:
        yield from face.next("dvcx checkout to put back what was deleted, or dvcx remove to stop tracking it")
