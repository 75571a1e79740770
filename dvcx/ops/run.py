"""run: write a stage and run it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.paths import join
from dvcx.errors import StageFailed
from dvcx.events import Emit, ignore
from dvcx.io import files
from dvcx.ops import records
from dvcx.ops.repro import StageRun, repro
from dvcx.ops.stage import StageInfo, add, undo

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Ran:
    """The stage as written and how its turn went (None with `no_exec`)."""

    stage: StageInfo
    run: StageRun | None


def run(
    project: Project,
    name: str,
    cmd: str | Sequence[str],
    *,
    deps: Sequence[str] = (),
    outs: Sequence[str] = (),
    outs_no_cache: Sequence[str] = (),
    params: Sequence[str] = (),
    metrics: Sequence[str] = (),
    metrics_no_cache: Sequence[str] = (),
    plots: Sequence[str] = (),
    plots_no_cache: Sequence[str] = (),
    wdir: str = "",
    desc: str = "",
    force: bool = False,
    no_exec: bool = False,
    directory: str = "",
    emit: Emit = ignore,
) -> Ran:
    """Write the stage (see `stage.add`) and run it alone. When it fails dvcx.yaml is as it was.

    Raises `StageFailed` and what `stage.add` raises.
    """
    before = files.read_record(project.root, join(directory, records.PIPELINE), records.MAX_PIPELINE)
    written = add(
        project,
        name,
        cmd,
        deps=deps,
        outs=outs,
        outs_no_cache=outs_no_cache,
        params=params,
        metrics=metrics,
        metrics_no_cache=metrics_no_cache,
        plots=plots,
        plots_no_cache=plots_no_cache,
        wdir=wdir,
        desc=desc,
        force=force,
        directory=directory,
        emit=emit,
    )
    if no_exec:
        return Ran(written.stage, None)
    try:
        turn = repro(project, [written.stage.name], single_item=True, emit=emit).runs[0]
        if turn.how == "failed":
            message, _, hint = turn.error.partition("\n")
            raise StageFailed(message, hint)
    except BaseException:
        undo(project, directory, before)
        records.autostage(project, [join(directory, records.PIPELINE)])
        raise
    return Ran(written.stage, turn)
