"""checkout: half a dvcx.yaml may be valid YAML; the outputs of the stages it lost stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dvcx.events import Warned
from dvcx.ops.checkout import checkout
from dvcx.ops.remove import remove
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, commit_all, seen, write

FIRST = "stages:\n  one:\n    cmd: echo 1 > first\n    outs: [first]\n"
SECOND = "  two:\n    cmd: mkdir second; echo 2 > second/x; echo 3 > third\n    outs: [second, third]\n"


@pytest.mark.parametrize("file", ["dvcx.yaml", "sub/dvcx.yaml"])
def test_what_the_lock_still_names_stays(project: Project, file: str, events: list[Any]) -> None:
    base = os.path.dirname(file)
    write(project, {file: FIRST + SECOND})
    repro(again(project))
    commit_all(project)
    before = {path: seen(project, os.path.join(base, path)) for path in ("first", "second", "third")}
    write(project, {file: FIRST})
    assert status(again(project)).clean
    done = checkout(again(project), emit=events.append)
    assert (done.placed, done.removed) == (0, 0)
    (warned,) = [event for event in events if isinstance(event, Warned)]
    stage = "sub/dvcx.yaml:two" if base else "two"
    assert f"written by stage '{stage}', which {file} no longer has" in warned.message and "1 more output" in warned.message
    assert f"git checkout -- {file}" in warned.hint
    assert {path: seen(project, os.path.join(base, path)) for path in before} == before
    # Once more: it is still remembered, and still stays.
    checkout(again(project))
    assert {path: seen(project, os.path.join(base, path)) for path in before} == before
    write(project, {file: FIRST + SECOND})
    assert status(again(project)).clean and checkout(again(project)).unchanged == 3


def test_another_commit_without_the_stage_takes_them_away(project: Project) -> None:
    from tests.ops.trying import run_git

    write(project, {"dvcx.yaml": FIRST})
    repro(again(project))
    commit_all(project)
    write(project, {"dvcx.yaml": FIRST + SECOND})
    repro(again(project))
    commit_all(project)
    run_git(project, "checkout", "-q", "HEAD~1")
    assert checkout(again(project)).removed == 2
    assert not Path(project.root, "second").exists() and not Path(project.root, "third").exists()
    run_git(project, "checkout", "-q", "main")
    assert checkout(again(project)).placed == 2


def test_a_stage_that_was_removed_is_not_missed(project: Project, events: list[Any]) -> None:
    write(project, {"dvcx.yaml": FIRST + SECOND})
    repro(again(project))
    remove(again(project), ["two"])
    checkout(again(project), emit=events.append)
    assert not [event for event in events if isinstance(event, Warned)] and Path(project.root, "third").exists()
