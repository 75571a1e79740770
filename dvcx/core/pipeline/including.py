"""Including: stages that stand in other files and are part of a dvcx.yaml as if they stood in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dvcx.core.documents import Document
from dvcx.core.paths import parent, resolve
from dvcx.core.pipeline.checking import Place, field, refused, texts
from dvcx.core.pipeline.schema import FILE_NAME, Pipeline, Stage, address
from dvcx.core.records import is_record
from dvcx.errors import Conflict, NotFound, display

MAX_DEPTH = 10
MAX_FILES = 200


class Part(NamedTuple):
    """One file of a pipeline, read: what it says by itself, and what knows its places."""

    file: str
    document: Document
    pipeline: Pipeline


def parts(
    document: Document, file: str, read: Callable[[str], Document | None], parse: Callable[[Document, str], Pipeline]
) -> list[Part]:
    """The dvcx.yaml `file` and every file it includes, and those include, each once and in the order they are named.

    Paths are relative to the file they stand in. Raises `NotFound`, `Conflict` for a circle and `UsageError`, with the place.
    """
    found: dict[str, Part] = {}

    def take(document: Document, file: str, chain: tuple[str, ...]) -> None:
        found[file] = Part(file, document, parse(document, file))
        for at, path in _named(document, file):
            if path in chain:
                circle = " → ".join((*chain[chain.index(path) :], path))
                raise refused(
                    document, at, f": the files include one another in a circle: {display(circle)}", "take one out", kind=Conflict
                )
            if path in found:
                continue
            if len(chain) > MAX_DEPTH or len(found) >= MAX_FILES:
                limit = f"{MAX_FILES} files" if len(found) >= MAX_FILES else f"{MAX_DEPTH} levels"
                raise refused(
                    document, at, f": more than {limit} of included files", "include the files of the inner ones directly"
                )
            inner = read(path)
            if inner is None:
                raise refused(
                    document,
                    at,
                    f": there is no file '{display(path)}'",
                    "a path is relative to the file it stands in",
                    kind=NotFound,
                )
            take(inner, path, (*chain, path))

    take(document, file, (file,))
    return list(found.values())


def joined(found: Sequence[Part]) -> Pipeline:
    """One pipeline of several parts: all stages belong to the first one's file, and share its lock.

    Raises `Conflict`, naming both places, for two stages of one name.
    """
    if len(found) == 1:
        return found[0].pipeline
    file = found[0].file
    stages: dict[str, tuple[Part, Stage]] = {}
    for part in found:
        for stage in part.pipeline.stages:
            if stage.name in stages:
                where, other = _where(part, stage.name), _where(stages[stage.name][0], stage.name)
                raise Conflict(f"{where}: stage '{display(stage.name)}' is defined in {other} already", "rename one of the two")
            stages[stage.name] = (part, stage if part.file == file else _moved(stage, part.file, file))
    pipelines = [part.pipeline for part in found]
    return Pipeline(
        tuple(stage for _, stage in stages.values()),
        tuple(dict.fromkeys(path for one in pipelines for path in one.params)),
        tuple(dict.fromkeys(metric for one in pipelines for metric in one.metrics)),
        tuple(plot for one in pipelines for plot in one.plots),
        tuple(artifact for one in pipelines for artifact in one.artifacts),
        tuple(dataset for one in pipelines for dataset in one.datasets),
        tuple(pair for one in pipelines for pair in one.maps),
    )


def _named(document: Document, file: str) -> list[tuple[Place, str]]:
    """The files that are included, each with its place."""
    written = document.value.get("include") if isinstance(document.value, dict) else None
    several = isinstance(written, list)
    found: list[tuple[Place, str]] = []
    for number, text in enumerate(texts(document, ("include",), written, single=True)):
        at: Place = ("include", number) if several else ("include",)
        path = resolve(parent(file), text, f"{document.where(*at, value=True)}: {field(at)}")
        if is_record(path):
            raise refused(
                document,
                at,
                f": '{display(path)}' is part of the project by itself",
                f"include files that are not named {FILE_NAME}",
            )
        found.append((at, path))
    return found


def _moved(stage: Stage, old: str, new: str) -> Stage:
    """A stage of the file `old` as one of `new`, which stands for it."""
    mine = address(old, "")
    wants = tuple(
        want._replace(value=address(new, want.value.removeprefix(mine)))
        if want.kind == "stage" and want.value.startswith(mine)
        else want
        for want in stage.wants
    )
    return stage._replace(file=new, wants=wants, source=old)


def _where(part: Part, name: str) -> str:
    names = part.document.value.get("stages") or {}
    return part.document.where("stages", name if name in names else name.partition("@")[0])
