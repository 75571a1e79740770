"""verify: what a stage writes from its declared inputs alone, compared; and the files it missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.errors import NotFound
from dvcx.ops.repro import repro
from dvcx.ops.verify import ComparedOut, verify
from dvcx.project import Project
from tests.ops.trying import again, text, wipe_cache, write


def ran(project: Project, stage: str, files: dict[str, str | bytes]) -> Project:
    write(project, {"dvcx.yaml": f"stages:\n  s: {stage}\n", **files})
    done = repro(again(project))
    assert done.failed == 0, done
    return again(project)


def test_the_same(project: Project) -> None:
    project = ran(project, "{cmd: cp in out, deps: [in], outs: [out]}", {"in": "1"})
    before = text(project, "dvcx.lock")
    done = verify(project, "s")
    assert done.good and done.outs == (ComparedOut("out", "same"),)
    wipe_cache(project)
    Path(project.root, "out").write_text("edited")
    assert verify(project, "out").good  # what the workspace holds does not count
    assert text(project, "dvcx.lock") == before and text(project, "out") == "edited"


def test_what_is_not_deterministic(project: Project) -> None:
    project = ran(project, "{cmd: date +%N > out, deps: [in], outs: [out]}", {"in": "1"})
    done = verify(project, "s")
    assert not done.good and done.outs[0].how == "differs"


@pytest.mark.parametrize(
    ("stage", "missed"),
    [
        ("{cmd: cat in hidden.txt > out, deps: [in], outs: [out]}", "hidden.txt"),
        ("{cmd: sh ./sub/tool.sh > out, deps: [in], outs: [out]}", "sub/tool.sh"),
        ("{cmd: python3 main.py > out, deps: [main.py], outs: [out]}", "helper.py"),
        ("{cmd: python3 sub/reads.py > out, deps: [sub/reads.py], outs: [out]}", "sub/table.csv"),
    ],
)
def test_an_undeclared_input_is_named(project: Project, stage: str, missed: str) -> None:
    files: dict[str, str | bytes] = {
        "in": "1",
        "hidden.txt": "2",
        "sub/tool.sh": "echo 3",
        "main.py": "import helper; print(helper.X)",
        "helper.py": "X = 1",
        "sub/reads.py": "import os; print(open(os.path.dirname(__file__) + '/table.csv').read())",
        "sub/table.csv": "a\n1\n",
    }
    project = ran(project, stage, files)
    done = verify(project, "s")
    assert not done.good and done.missed == (missed,) and done.error


def test_tables_within_a_tolerance(project: Project) -> None:
    pytest.importorskip("pandas")
    stage = "{cmd: 'printf \"a,b\\n1.00000%s,x\\n\" $(date +%N | head -c 3) > t.csv', outs: [t.csv]}"
    project = ran(project, stage, {})
    assert verify(project, "s", tolerance=1e-3).outs[0].how in ("close", "same")
    assert not verify(project, "s", tolerance=1e-12).good


def test_a_stage_that_never_ran_and_inputs_that_are_nowhere(project: Project) -> None:
    write(project, {"dvcx.yaml": "stages: {s: {cmd: cat in in > out, deps: [in], outs: [out]}}", "in": "1"})
    with pytest.raises(NotFound, match="was never run"):
        verify(again(project), "s")
    repro(again(project))
    write(project, {"in": "other"})
    with pytest.raises(NotFound, match="neither in the cache nor in the workspace"):
        verify(again(project), "s")
