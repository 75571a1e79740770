"""verify: what a stage writes from its declared inputs alone, compared; and the files it missed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvcx.errors import NotFound
from dvcx.io.runners import witness
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


# What a command asks for is seen, however it ends

QUIET = """\
import os, sys
try:
    factor = open("hidden.txt").read()
except OSError:
    factor = "none"
open("out", "w").write(open("in").read())
print(factor)
"""
ABSOLUTE = """\
import pathlib
print(pathlib.Path("ROOT/hidden.txt").read_text())
pathlib.Path("out").write_text(pathlib.Path("in").read_text())
"""
TRACED = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture
def no_strace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(witness, "_strace", lambda directory: ())


def files_of(project: Project) -> dict[str, str | bytes]:
    return {
        "in": "1",
        "hidden.txt": "2",
        "dir/a": "1",
        "quiet.py": QUIET,
        "absolute.py": ABSOLUTE.replace("ROOT", project.root),
        "imports.py": "try:\n    import plugin\nexcept ImportError:\n    pass\nopen('out', 'w').write('1')\n",
        "plugin.py": "",
    }


@pytest.mark.usefixtures("no_strace")
@pytest.mark.parametrize(
    ("script", "missed", "read"),
    [("quiet.py", "hidden.txt", ""), ("absolute.py", "", "hidden.txt"), ("imports.py", "plugin.py", "")],
)
def test_python_tells_what_it_opens_when_all_goes_well(project: Project, script: str, missed: str, read: str) -> None:
    project = ran(project, f"{{cmd: python3 {script}, deps: [in, {script}], outs: [out]}}", files_of(project))
    done = verify(project, "s")
    assert (done.error, done.seen, done.outs) == ("", ("python",), (ComparedOut("out", "same"),))
    assert (done.missed, done.read, done.good) == (tuple(filter(None, [missed])), tuple(filter(None, [read])), not read)


@TRACED
@pytest.mark.parametrize(
    ("command", "missed", "read"),
    [
        ("cat in ROOT/hidden.txt > /dev/null; cp in out", "", "hidden.txt"),
        pytest.param("cat hidden.txt 2> /dev/null; cp in out", "hidden.txt", "", marks=pytest.mark.nightly),
        pytest.param("test -e hidden.txt; cp in out", "hidden.txt", "", marks=pytest.mark.nightly),
        ("(cd dir 2> /dev/null && cat a) ; ls dir 2> /dev/null; cp in out", "dir", ""),
        pytest.param("cd ROOT/dir && cat a; cd -; cp in out", "", "dir/a", marks=pytest.mark.nightly),
        pytest.param("cd ROOT && cat hidden.txt > in2; cd -; cp in out", "", "hidden.txt", marks=pytest.mark.nightly),
        ("cp in out; cp out ROOT/spare; cat ROOT/in > /dev/null", "", ""),  # what is written, and what is declared
    ],
)
def test_strace_tells_what_any_program_opens(project: Project, command: str, missed: str, read: str) -> None:
    command = command.replace("ROOT", project.root)
    project = ran(project, f'{{cmd: "{command}", deps: [in], outs: [out]}}', files_of(project))
    done = verify(project, "s")
    assert (done.error, done.seen) == ("", ("strace",))
    assert (done.missed, done.read, done.good) == (tuple(filter(None, [missed])), tuple(filter(None, [read])), not read)


@pytest.mark.nightly
@pytest.mark.usefixtures("no_strace")
def test_where_nobody_sees_it_is_said(project: Project) -> None:
    project = ran(project, "{cmd: cp in out; cat hidden.txt || true, deps: [in], outs: [out]}", files_of(project))
    done = verify(project, "s")
    assert done.good and done.seen == () and done.missed == ()


def test_a_watched_command_sees_what_it_always_sees(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own sitecustomize runs, sys.path is as it was, and how it ends is told."""
    own = tmp_path / "own-site"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins; builtins.MARK = 7\n")
    monkeypatch.setenv("PYTHONPATH", str(own))
    script = "import sys; print(MARK, [path for path in sys.path if 'own-site' in path or path.endswith('/python')])"
    project = ran(project, "{cmd: python3 show.py > out, deps: [show.py], outs: [out]}", {"show.py": script})
    assert text(project, "out") == f"7 ['{own}']\n"
    assert verify(project, "s").outs == (ComparedOut("out", "same"),)
    quiet = f"touch out; test -e {project.root}/quiet"
    for ends, how in (("exit 3", "exited with 3"), ("kill -9 $$", "was killed by SIGKILL")):
        project = ran(project, f"{{cmd: {quiet} || {ends}, outs: [out]}}", {"quiet": "1"})
        Path(project.root, "quiet").unlink()
        assert verify(project, "s").error == f"the command {how}: {quiet} || {ends}"


def test_programs_in_the_project_are_no_inputs(project: Project) -> None:
    files: dict[str, str | bytes] = {
        "in": "1",
        "env/pyvenv.cfg": "",
        "env/lib/tool.py": "print(1)",
        "read.py": f"open('{project.root}/env/lib/tool.py').read(); open('out', 'w').write('1')",
    }
    project = ran(project, "{cmd: python3 read.py, deps: [in, read.py], outs: [out]}", files)
    done = verify(project, "s")
    assert done.good and done.read == ()


def test_a_command_that_writes_what_it_reads(project: Project) -> None:
    stage = "{cmd: 'test -e ROOT/quiet || echo 2 > in; cp in out', deps: [in], outs: [out]}".replace("ROOT", project.root)
    project = ran(project, stage, {"in": "1\n", "quiet": ""})
    Path(project.root, "quiet").unlink()
    done = verify(project, "s")
    assert not done.good and "changed its input in" in done.error


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
