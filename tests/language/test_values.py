"""Params, metrics and plots show what DVC shows of the same project: the same revisions, files, keys, values and points.

A nightly comparison with DVC itself (`DVCX_TEST_DVC` names its Python), over projects with a history (values.py). The shape
of the two answers differs; `ours` and `theirs` bring both into one. Where they mean to differ: docs/how-to/coming-from-dvc.md.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dvcx.cli.main import main
from dvcx.ops.init import init
from tests.language.dvc_shows import begin, build
from tests.language.values import CASES

DVC = os.environ.get("DVCX_TEST_DVC", "")
AUTHOR = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
Answer = dict[str, Any]

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(not DVC, reason="DVCX_TEST_DVC names no Python that has DVC")]


@pytest.fixture(scope="module")
def said() -> dict[str, list[Any]]:
    """DVC's answers to all questions, from one process."""
    asked = {name: (case.steps, [question.split() for question in case.questions]) for name, case in CASES.items()}
    done = subprocess.run(
        [DVC, str(Path(__file__).with_name("dvc_shows.py"))],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1", **AUTHOR},
    )
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", list(CASES))
def test_dvc_shows_the_same(
    name: str,
    said: dict[str, list[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "project"

    def repro() -> None:
        monkeypatch.chdir(root)
        assert main(["repro"]) == 0

    begin(str(root))
    init(str(root))
    build(str(root), CASES[name].steps, "dvcx.yaml", repro)
    monkeypatch.chdir(root)
    for question, answer in zip(CASES[name].questions, said[name], strict=True):
        capsys.readouterr()
        main([*question.split(), "--json"])
        assert ours(question, json.loads(capsys.readouterr().out)) == theirs(question, answer), question


def ours(question: str, answer: Any) -> Any:
    """What dvcx answered: values by revision, file and key; differences by file and key; points by plot."""
    kind, verb = question.split()[:2]
    if kind == "plots":
        return {plot["name"].rpartition(":")[2]: _points(plot) for plot in answer["plots"]}
    if verb == "diff":
        found: Answer = {}
        for row in answer["differences"]:
            if kind == "metrics" and _is_no_metric(row["old"]) and _is_no_metric(row["new"]):
                continue
            sides = {"old": _value(row["old"]), "new": _value(row["new"])}
            found.setdefault(row["path"], {})[row["key"]] = sides
        return found
    revisions = {}
    for one in answer["revisions"]:
        files = {file["path"]: file["values"].items() for file in one["files"]}
        revisions[one["rev"] or "workspace"] = {
            path: {key: _value(value) for key, value in values if kind != "metrics" or not _is_no_metric(value)}
            for path, values in files.items()
        }
    return _commits(revisions) if "--all-commits" in question else revisions


def theirs(question: str, answer: Any) -> Any:
    """What DVC answered, in the same form."""
    kind, verb = question.split()[:2]
    if kind == "plots":
        return {
            name.rpartition("::")[2]: [[rev, *map(_number, point)] for rev, *point in points]
            for name, points in answer.items()
        }
    if verb == "diff":
        found = {}
        for path, rows in answer.items():
            found[path] = {key: {"old": _value(row["old"]), "new": _value(row["new"])} for key, row in rows.items()}
        return found
    revisions = {}
    for rev, shown in answer.items():
        files = {path: file["data"] for path, file in shown["data"].items() if "data" in file}
        for name in (rev or "workspace").split(","):
            revisions[name] = {path: _flat(values) for path, values in files.items()}
    return _commits(revisions) if "--all-commits" in question else revisions


def _commits(revisions: Answer) -> list[str]:
    """What is at the commits, whose names differ; those that have nothing are left out."""
    return sorted(json.dumps([name == "workspace", files], sort_keys=True) for name, files in revisions.items() if files)


def _is_no_metric(value: Any) -> bool:
    return value is None or isinstance(value, list)


def _value(value: Any) -> Any:
    """A value as both can have it: lists are text in DVC's differences, and numbers that are not finite in ours."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
    return str(value) if isinstance(value, list) else value


def _flat(values: Any, above: str = "") -> Answer:
    if not isinstance(values, Mapping):
        return {above: _value(values)}
    found: Answer = {}
    for key, value in values.items():
        found |= _flat(value, f"{above}.{key}" if above else key)
    return found


def _points(plot: Answer) -> list[Any]:
    if plot["images"]:
        return [[image["rev"]] for image in plot["images"]]
    values = plot["spec"]["data"]["values"]
    if plot["template"].startswith("confusion"):
        return [[row["rev"], row["x"], row["y"]] for row in values for _ in range(row["count"])]
    return [[row["rev"], row["x"], row["y"]] for row in values]


def _number(cell: Any) -> Any:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return cell
