"""The cases of the language: small projects in one file each, what dvcx and DVC make of them, and what is expected."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dvcx.core.pipeline.dependencies import SET, externals
from dvcx.core.pipeline.schema import Out, Pipeline, Stage
from dvcx.errors import DvcxError
from dvcx.ops.records import read_pipeline

HERE = Path(__file__).parent
CASES = HERE / "cases"
SETTINGS = ".dvc/config"


class Case(NamedTuple):
    """Files by path, and what is expected of them; `differs` says why DVC does something else, "" when it does the same."""

    name: str
    files: Mapping[str, str]
    expected: Any
    differs: str


def load() -> list[Case]:
    """Every case, by name."""
    return [read(path) for path in sorted(CASES.glob("*.txt"))]


def read(path: Path) -> Case:
    """The case in a file: sections that begin with a line `=== NAME`."""
    sections: dict[str, str] = {}
    for part in path.read_text().removeprefix("=== ").split("\n=== "):
        name, _, text = part.partition("\n")
        sections[name] = text + "\n"
    expected = json.loads(sections.pop("expected", "null"))
    differs = sections.pop("differs", "").strip()
    return Case(path.stem, sections, expected, differs)


def dvcx_says(case: Case) -> Any:
    """What dvcx makes of a case, in the words of `dvc_says.py`; an error with its message and hint."""
    settings = json.loads(case.files.get(SETTINGS, "{}"))
    style = (settings.get("bool", "store_true"), settings.get("list", "nargs"))

    def bytes_of(path: str, limit: int) -> bytes | None:
        return case.files[path].encode() if path in case.files else None

    found = {}
    try:
        for path in sorted(case.files):
            if os.path.basename(path) == "dvcx.yaml":
                pipeline, _ = read_pipeline(case.files[path].encode(), path, "", bytes_of, style)
                found[path] = _pipeline(pipeline)
    except DvcxError as error:
        return {"error": error.message, "hint": error.hint}
    return found


def dvc_says(cases: Iterable[Case], python: str) -> dict[str, Any]:
    """What DVC makes of all cases, asked in one process of its own Python."""
    asked = {case.name: {path.replace("dvcx.yaml", "dvc.yaml"): text for path, text in case.files.items()} for case in cases}
    answer = subprocess.run(
        [python, str(HERE / "dvc_says.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    said = json.loads(answer.stdout)
    return {name: _renamed(value) for name, value in said.items()}


def _renamed(said: Any) -> Any:
    return said if "error" in said else {path.replace("dvc.yaml", "dvcx.yaml"): value for path, value in said.items()}


def _pipeline(pipeline: Pipeline) -> Any:
    return {
        "stages": {stage.name: _stage(stage) for stage in pipeline.stages},
        "params": list(pipeline.params),
        "metrics": [metric.path for metric in pipeline.metrics],
        "plots": [plot.name if plot.properties == "{}" else {plot.name: json.loads(plot.properties)} for plot in pipeline.plots],
        "artifacts": {one.name: _noted(one._asdict()) for one in pipeline.artifacts},
        "datasets": [json.loads(one.properties) for one in pipeline.datasets],
    }


def _noted(row: dict[str, Any]) -> dict[str, Any]:
    notes = {**row, "labels": list(row["labels"]), "meta": _value(row["meta"])}
    return {key: value for key, value in notes.items() if value and key != "name"}


def _stage(stage: Stage) -> Any:
    return {
        "cmd": stage.cmd if isinstance(stage.cmd, str) else list(stage.cmd),
        "wdir": stage.wdir or ".",
        "deps": [*stage.deps, *(want.value for want in externals(stage)), *_sets(stage)],
        "params": {of.file: list(of.keys) for of in stage.params},
        "outs": [_out(out) for out in stage.outs],
        "frozen": stage.frozen,
        "always_changed": stage.always_changed,
        "desc": stage.desc,
        "meta": _value(stage.meta),
        "used": {of.file: sorted(of.keys) for of in stage.used},
    }


def _sets(stage: Stage) -> list[str]:
    return [f"ds://{want.value}" for want in stage.wants if want.kind == SET]


def _out(out: Out) -> Any:
    row = out._asdict()
    return {**row, "labels": list(out.labels), "meta": _value(out.meta), "plot": _value(out.plot)}


def _value(text: str) -> Any:
    return json.loads(text) if text else None
