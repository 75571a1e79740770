"""repro: what lies beside and under a stage's old outputs while it runs is nobody's to delete."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dvcx.events import Noted, StageBegan
from dvcx.ops import cache as cache_ops
from dvcx.ops.placing import ASIDE
from dvcx.ops.repro import repro
from dvcx.project import Project
from tests.ops.trying import again, text, write

STAGE = """\
stages:
  s:
    cmd: mkdir -p out && cp in out/o && echo run > out/run.log
    deps: [in]
    outs: [out]
"""


@pytest.fixture
def built(project: Project) -> Project:
    """A stage that wrote the directory `out`; .dvcxignore names notes and logs, and notes were put beside the output."""
    write(project, {"in": "1", "dvcx.yaml": STAGE, ".dvcxignore": "*.note\n*.log\nprivate/\n"})
    assert repro(again(project)).failed == 0
    write(project, {"out/my.note": "precious", "out/private/deep/x": "precious too"})
    return again(project)


def test_ignored_files_in_an_output_survive_a_run(built: Project) -> None:
    write(built, {"in": "2"})
    assert [run.how for run in repro(built).runs] == ["ran"]
    assert text(built, "out/o") == "2" and text(built, "out/run.log") == "run\n"
    assert text(built, "out/my.note") == "precious" and text(built, "out/private/deep/x") == "precious too"
    assert list(Path(built.staging_dir).iterdir()) == []


def test_ignored_files_survive_when_the_output_becomes_a_file(built: Project) -> None:
    write(built, {"dvcx.yaml": STAGE.replace("mkdir -p out && cp in out/o && echo run > out/run.log", "cp in out")})
    assert [run.how for run in repro(again(built)).runs] == ["ran"]
    assert [file.read_text() for file in Path(built.state_dir).rglob("my.note")] == ["precious"]


def test_ignored_files_survive_a_killed_run(built: Project) -> None:
    aside = Path(built.staging_dir, ASIDE + "1")
    aside.mkdir(parents=True)
    (aside / "manifest.json").write_text(json.dumps({"out": True}))
    shutil.move(str(Path(built.root, "out")), str(aside / "0"))
    write(built, {"out/o": "half"})
    repro(built)
    assert text(built, "out/my.note") == "precious" and text(built, "out/o") == "1"


def test_an_output_that_changes_while_repro_waits_is_kept(built: Project, tmp_path: Path) -> None:
    write(built, {"in": "2"})
    ready, done = threading.Event(), threading.Event()

    def other() -> None:
        with again(built).lock("another command", lambda event: None):
            ready.set()
            done.wait(20)
            time.sleep(0.1)
            write(built, {"out/o": "typed just now"})

    thread = threading.Thread(target=other)
    notes: list[Any] = []

    def emit(event: Any) -> None:
        notes.append(event)
        if isinstance(event, StageBegan):
            # The stage was judged; from here on it waits for the other command.
            thread.start()
            ready.wait(20)
            done.set()

    assert [run.how for run in repro(built, emit=emit).runs] == ["ran"]
    thread.join()
    kept = next(event.message for event in notes if isinstance(event, Noted) and "cache get" in event.message)
    object_id = kept.partition("dvcx cache get ")[2].split()[0]
    cache_ops.get(built, object_id, str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "typed just now"
