"""dvcx status: what changed, what is stale, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import AskingRemote, app
from dvcx.cli.options import AskRemote, Targets
from dvcx.errors import UsageError, display

if TYPE_CHECKING:
    from dvcx.core.holding import Holding, PathLacking
    from dvcx.ops.status import DataChange, Status
    from dvcx.project import Project

app = app()


SHOWN = 3


@app.command("status", cls=AskingRemote)
def status(ctx: Context, targets: Targets = None, remote: AskRemote = None) -> None:
    """Say what changed since it was recorded, and which stages are stale and why.

    It reads no data that has not been touched and changes nothing. It exits with 0 whatever the answer; `dvcx check`
    exits with 1 when something is not up to date. What was never placed in this workspace is called not pulled.

    With --remote it also lists the remote and names what is needed and not there, and says which stages the remote (any,
    without a name) knows the results of; no data is fetched.

    Examples:
      dvcx status
      dvcx status data/ train
      dvcx status --remote
      dvcx status --json

    Exits: 3 4 5 6 9 11
    """
    from dvcx.ops.status import status as op

    face: Face = ctx.obj
    project = face.project()
    check_name(project, targets, remote)
    result = op(project, face.targets(project, targets), remote=remote, emit=face.emit)
    face.answer(result, lambda: [*status_lines(face, result), *remote_lines(face, result)])


def check_name(project: Project, targets: Sequence[str] | None, remote: str | None) -> None:
    """A path right behind --remote was hardly meant as a remote's name."""
    if remote and remote not in project.config.remotes() and (os.path.lexists(remote) or "/" in remote):
        raise UsageError(f"no remote is called '{display(remote)}'", f"paths come first: dvcx status {display(remote)} --remote")


def status_lines(face: Face, result: Status, *, verb: str = "status") -> Iterable[str]:
    """The answer in groups: data, then stages with their reasons, then what to do."""
    from dvcx.core.staleness import WOULD_RESTORE, plan_text

    stages = [stage for stage in result.stages if stage.state not in ("fresh", "skipped")]
    skipped = [stage for stage in result.stages if stage.state == "skipped"]
    changed = [change for change in result.data if change.state != "not pulled"]
    absent = [change for change in result.data if change.state == "not pulled"]
    if changed:
        yield "Changed data:"
        rows = [(change.state, face.path(change.path), change.text) for change in changed]
        for row, line in zip(rows, output.columns(rows, "  "), strict=True):
            yield f"  {face.paint.state(row[0])}{line[2 + len(row[0]) :]}"
    if absent:
        if changed:
            yield ""
        yield "Not pulled:"
        yield from output.columns([(face.path(change.path), change.text) for change in absent], "  ")
    if stages:
        if result.data:
            yield ""
        yield "Stages to run, with paths from the project's root:" if face.here else "Stages to run:"
        for stage in stages:
            told = stage.plan == WOULD_RESTORE and (stage.state == "stale" or stage.remote)
            known = f"  ({plan_text(stage.plan, stage.remote)})" if told else ""
            yield f"  {face.paint.state(stage.state)}  {display(stage.stage)}{known}"
            for reason in stage.reasons:
                yield f"    {display(reason)}"
    if skipped:
        if result.data or stages:
            yield ""
        yield "Skipped stages:"
        yield from output.columns([(display(stage.stage), display("; ".join(stage.reasons))) for stage in skipped], "  ")
        if not result.data and not stages:
            yield ""
    if not result.data and not stages:
        if not result.tracked and not result.stages:
            yield "nothing is tracked yet"
            yield from face.next("dvcx add FILE")
        else:
            counts = [f"{result.tracked:,} tracked"] if result.tracked else []
            counts += [output.plural(len(result.stages), "stage")] if result.stages else []
            counts += [f"{result.not_pulled:,} not pulled"] if result.not_pulled else []
            yield f"everything is up to date ({', '.join(counts)})"
        return
    if result.stages and not changed and not stages:
        yield ""
        yield f"everything else is up to date ({output.plural(len(result.stages), 'stage')})"
    yield ""
    states = {change.state for change in result.data}
    yield from face.next(*_steps(face, result, states, bool(stages), verb))


def _steps(face: Face, result: Status, states: set[str], stages: bool, verb: str) -> Iterable[str]:
    """Commands to type next; what each does stands behind it as a shell's comment."""
    from dvcx.core.staleness import NOT_AS_RECORDED
    from dvcx.ops.status import UNTOLD

    if not result.remotes and any(UNTOLD in reason for stage in result.stages for reason in stage.reasons):
        yield f"dvcx {verb} --remote  # reads listings on the remote"
    if "missing" in states:
        yield "dvcx pull  # brings what is missing"
    elif "not pulled" in states:
        yield "dvcx pull  # brings what is not here; dvcx pull PATH a part of it"
    elif stages:
        differ = any(NOT_AS_RECORDED in reason for stage in result.stages for reason in stage.reasons)
        yield f"dvcx repro{'  # makes the outputs anew' if differ else ''}"
        if differ:
            yield "dvcx checkout  # puts the recorded outputs in place"
    if any(change.text.startswith("cache object modified") for change in result.data):
        yield "dvcx fsck --repair  # the recorded bytes come back into the cache; the edited ones are kept"
    yield from _edited(face, [change for change in result.data if change.state == "modified"])
    if "deleted" in states:
        yield "dvcx checkout  # puts back what was deleted"
        yield "dvcx remove PATH  # stops tracking it"


def _edited(face: Face, edited: Sequence[DataChange]) -> Iterable[str]:
    if not edited:
        return
    import shlex

    # Named, or commit would record the stages that read them as if they had run.
    path = shlex.quote(face.path(edited[0].path)) if len(edited) == 1 else "PATH..."
    what, them = ("change", "it") if len(edited) == 1 else ("changes", "them")
    yield f"dvcx commit {path}  # records the {what}"
    if any(change.text.endswith("not pulled") for change in edited):
        # The whole of it cannot be put back: the rest was never here.
        inside = f"{path}/FILE" if len(edited) == 1 else "PATH/FILE"
        yield f"dvcx checkout --force {inside}  # undoes the change of a file; dvcx diff names the files"
    else:
        yield f"dvcx checkout --force {path}  # undoes {them}"


def remote_lines(face: Face, result: Status) -> Iterable[str]:
    """What each remote lacks, by tracked path with examples, what it has and the cache has not, and what to do."""
    for held in result.remotes:
        yield ""
        name = display(held.remote)
        if not held.missing:
            yield f"remote '{name}' holds everything ({output.files(held.objects, held.listings)})"
        else:
            yield f"Missing on remote '{name}' ({output.files(held.missing, held.missing_listings)}):"
            yield from output.columns([(face.path(path.path), _examples(face, path)) for path in held.lacking], "  ")
        if held.to_fetch:
            size = output.size(held.to_fetch_bytes)
            be = "is" if held.to_fetch == 1 else "are"
            yield f"{output.files(held.to_fetch, held.to_fetch_listings)} there ({size}) {be} not in the cache"
        yield from _remedy(face, held)


def _examples(face: Face, path: PathLacking) -> str:
    names = list(dict.fromkeys(item.path for item in path.objects))
    what = output.files(len(path.objects), sum(item.listing for item in path.objects))
    if names == [path.path]:
        return what
    shown = names if face.verbose else names[:SHOWN]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    return f"{what}: {', '.join(map(face.path, shown))}{more}"


def _remedy(face: Face, held: Holding) -> Iterable[str]:
    lost = [item for path in held.lacking for item in path.objects if not item.cached]
    if held.missing and len(lost) < sum(len(path.objects) for path in held.lacking):
        yield from face.next(f"dvcx push --remote {display(held.remote)}")
    if lost:
        more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        yield f"{face.path(lost[0].path)}{more}: what is recorded is neither here nor there; somebody may have it"
