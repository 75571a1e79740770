"""The demo: its commands run, show what they are meant to show, and touch nothing outside their directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvcx.errors import Conflict
from dvcx.events import Event, Noted
from dvcx.ops.demo import Demo, demo

EXAMPLE = """\
,Date,Open,High,Low,Close,Market Cap
1608,2013-04-28,135.30,135.98,132.10,134.21,"1,500,520,000"
1607,2013-04-29,134.44,147.49,134.00,144.54,"1,491,160,000"
1606,2013-04-30,144.00,146.93,134.05,139.00,"1,597,780,000"
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, list[str], Path]:
    lines: list[str] = []

    def listen(event: Event) -> None:
        assert isinstance(event, Noted)
        lines.append(event.message)

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        # What a git hook and a strange set-up would bring along must not lead anything astray.
        patch.setenv("GIT_DIR", str(home / "elsewhere"))
        patch.setenv("DVCX_CACHE_DIR", str(home / "cache"))
        place = tmp_path_factory.mktemp("demo") / "here"
        result = demo(str(place), emit=listen)
        assert sorted(os.listdir(home)) == []
    return result, lines, place


def outputs(result: Demo, command: str) -> list[str]:
    return [step.output for step in result.steps if command in step.command]


def test_each_command_is_told_before_its_output(told: tuple[Demo, list[str], Path]) -> None:
    result, lines, _ = told
    position = -1
    for step in result.steps:
        position = lines.index(f"$ {step.command}", position + 1)
        printed = step.output.splitlines()
        assert lines[position + 1 : position + 1 + len(printed)] == printed


def test_only_what_is_stale_runs(told: tuple[Demo, list[str], Path]) -> None:
    result, _, _ = told
    faster, longer, remark = outputs(result, "dvcx repro")
    assert "> train" in faster and "> extract" not in faster and "train.lr 0.1 → 0.5" in faster
    assert "> train" in longer and "> extract" in longer
    assert "> extract" in remark and "> train" not in remark
    assert "params.yaml: train.lr 0.1 → 0.5" in outputs(result, "dvcx status")[0]
    assert "data-input.csv" in outputs(result, "dvcx status")[1]


def test_the_data_of_the_day_comes_back(told: tuple[Demo, list[str], Path]) -> None:
    result, _, place = told
    assert (EXAMPLE + '{"rows": 3') in outputs(result, "cat data-input.csv metrics.json")[0]
    assert "everything is up to date" in result.steps[-1].output
    for name in ("data-input.csv", "data-output.csv", "model.json", "metrics.json"):
        assert (place / "colleague" / name).read_bytes() == (place / "project" / name).read_bytes()
    assert (place / "project" / "data-input.csv").read_text().count("\n") == 5


def test_stages_name_python_as_anybody_would(told: tuple[Demo, list[str], Path]) -> None:
    _, _, place = told
    text = (place / "project" / "dvcx.yaml").read_text()
    assert "cmd: python feature-extractor.py\n" in text or "cmd: python3 feature-extractor.py\n" in text


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(Conflict, match="not empty"):
        demo(str(tmp_path))
    with pytest.raises(Conflict, match="not a directory"):
        demo(str(tmp_path / "mine"))
    assert os.listdir(tmp_path) == ["mine"]
