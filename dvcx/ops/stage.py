"""stage: write a stage into dvcx.yaml, list the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.paths import join, several
from dvcx.core.pipeline.graph import build
from dvcx.core.pipeline.schema import Stage, check_stage_name, stage_record
from dvcx.errors import Conflict, display
from dvcx.events import Emit, ignore
from dvcx.io import files
from dvcx.ops import records

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One stage: its address, command, and the project paths it reads and writes."""

    name: str
    file: str
    cmd: str | tuple[str, ...]
    wdir: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: tuple[str, ...]
    desc: str


@dataclass(frozen=True, slots=True)
class Stages:
    """All stages, file by file as they are written."""

    stages: tuple[StageInfo, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A stage that was written to a dvcx.yaml; `replaced` when one of that name was there."""

    stage: StageInfo
    replaced: bool


def list_(project: Project, *, emit: Emit = ignore) -> Stages:
    """Every stage of every dvcx.yaml."""
    return Stages(tuple(_info(stage) for stage in records.load(project).stages))


def add(
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
    directory: str = "",
    emit: Emit = ignore,
) -> Written:
    """Write the stage into the dvcx.yaml of `directory` (a project path); the rest of the file stays as it is.

    Paths are relative to `wdir`, which is relative to `directory`. Raises `Conflict` for a name that is taken (without
    `force`), a path with two owners, a cycle; `UsageError` and `UnsafeInput` as reading the file would.
    """
    record = stage_record(
        cmd,
        deps=several(deps),
        outs=several(outs),
        outs_no_cache=several(outs_no_cache),
        params=several(params),
        metrics=several(metrics),
        metrics_no_cache=several(metrics_no_cache),
        plots=several(plots),
        plots_no_cache=several(plots_no_cache),
        wdir=wdir,
        desc=desc,
    )
    check_stage_name(name, "--name")
    file = join(directory, records.PIPELINE)
    with project.lock("dvcx stage add", emit):
        data = files.read_record(project.root, file, records.MAX_PIPELINE) or b""
        stage, replaced, fresh = _with(project, data, file, name, record, force=force)
        files.write_record(project.root, file, fresh)
        records.autostage(project, [file])
    return Written(_info(stage), replaced)


def _with(
    project: Project, data: bytes, file: str, name: str, record: dict[str, object], *, force: bool
) -> tuple[Stage, bool, bytes]:
    """The stage, whether it replaces one, and the file's new bytes; everything the whole project says against it is raised."""
    from dvcx.core.pipeline.publish import HEADER
    from dvcx.io.yaml.editing import set_stage

    tracked = records.load(project)
    replaced = any(stage.name == name and stage.file == file for stage in tracked.stages)
    if replaced and not force:
        raise Conflict(f"{display(file)} has a stage '{display(name)}' already", "--force replaces it; or choose another --name")
    fresh = set_stage(data or HEADER.encode(), name, record, file)
    read = records.with_wildcards(project, records.reader(project), tracked.lock, there=True)
    pipeline, _ = records.read_pipeline(fresh, file, "", read, records.template_style(project))
    build(records.linked({**tracked.pipelines, file: pipeline}, project.root), tracked.pointers)
    return next(stage for stage in pipeline.stages if stage.name == name), replaced, fresh


def _info(stage: Stage) -> StageInfo:
    params = tuple(f"{of.file}:{key}" for of in stage.params for key in of.keys or ("",))
    outs = tuple(out.path for out in stage.outs)
    return StageInfo(stage.address, stage.file, stage.cmd, stage.wdir, stage.deps, outs, params, stage.desc)


def undo(project: Project, directory: str, data: bytes | None) -> None:
    """Give the dvcx.yaml of a directory the bytes it had, or remove it when there was none."""
    file = join(directory, records.PIPELINE)
    if data is None:
        files.remove_record(project.root, file)
    else:
        files.write_record(project.root, file, data)
