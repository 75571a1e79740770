"""Dependencies that are no plain path, in a real project: what is found, what makes a stage run again and what does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import DvcxError, NotFound, UsageError
from dvcx.events import Noted, ignore
from dvcx.ops.add import add
from dvcx.ops.inputs import environment_digests, matching
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import commit_all, lock

Put = Callable[..., None]


def turns(project: Project, *targets: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(run.stage, run.how, run.reasons) for run in repro(project, targets).runs]


def words(project: Project) -> dict[str, tuple[str, ...]]:
    return {stage.stage: stage.reasons for stage in status(project).stages if stage.state != "fresh"}


PIPELINE = """\
stages:
  one:
    cmd: cat src/*.txt > one.out
    deps: ["glob:src/**/*.txt", "maybe.txt?"]
    outs: [one.out]
  two:
    cmd: cat code/run.py one.out > two.out; echo "$TOKEN" >> two.out
    deps: ["py:code/run.py", "stage:one"]
    env: [TOKEN]
    outs: [two.out]
  three:
    cmd: cp two.out three.out
    when: steps.three and 'x' in steps.names
    deps: ["stage:two"]
    outs: [three.out]
"""
FILES = {
    "dvcx.yaml": PIPELINE,
    "src/a.txt": "a", "src/deep/b.txt": "b", "src/no.csv": "", "src/__pycache__/x.txt": "",
    "code/run.py": "import near\nfrom lib import far\n", "code/near.py": "", "lib/far.py": "x = 1\n", "lib/other.py": "",
    "params.yaml": "steps: {three: false, names: [x]}\n",
}  # fmt: skip


def test_the_new_dependencies_in_a_project(project: Project, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)
    put(FILES)
    assert [how for _, how, _ in turns(project)] == ["ran", "ran", "not wanted"]
    entry = lock(project)["two"]
    assert list(entry["used"]["py:code/run.py"]) == ["code/near.py", "code/run.py", "lib/far.py"]
    assert list(lock(project)["one"]["used"]["glob:src/**/*.txt"]) == ["src/a.txt", "src/deep/b.txt"]
    assert (lock(project)["one"]["absent"], entry["env"], "three" in lock(project)) == (["maybe.txt"], {"TOKEN": None}, False)
    assert words(project) == {"three": ("when: steps.three and 'x' in steps.names is false",)}
    assert status(project).clean
    # No change: layout, comments, what is not imported, what no wildcard names.
    put({"lib/far.py": "x   =   (1)  # as before\n", "lib/other.py": "y = 2", "src/more.csv": "", "src/__pycache__/y.txt": ""})
    assert [how for _, how, _ in turns(project)] == ["unchanged", "unchanged", "not wanted"]
    put({"lib/far.py": "x = 2\n", "src/c.txt": "c", "maybe.txt": "", "params.yaml": "steps: {three: true, names: [x]}\n"})
    os.unlink(Path(project.root, "src/deep/b.txt"))
    assert words(project)["one"] == (
        "maybe.txt: was missing, and is there now", "src/c.txt: added (glob:src/**/*.txt)",
        "src/deep/b.txt: removed (glob:src/**/*.txt)",
    )  # fmt: skip
    assert words(project)["two"] == ("lib/far.py: changed (py:code/run.py)", "one.out will be rewritten by one")
    assert [how for _, how, _ in turns(project)] == ["ran", "ran", "ran"]
    monkeypatch.setenv("TOKEN", "hush-secret")
    assert words(project)["two"] == ("environment variable TOKEN is set now",)
    turns(project)
    everything = "".join(file.read_text() for file in Path(project.root).rglob("dvcx.lock"))
    assert "hush-secret" not in everything
    monkeypatch.delenv("TOKEN")
    # A result that is known under the old value comes back from the cache.
    assert [how for _, how, _ in turns(project)] == ["unchanged", "restored", "restored"]


def test_cosmetic_changes_of_the_file_are_no_change(project: Project, put: Put) -> None:
    put(FILES)
    turns(project)
    put({"dvcx.yaml": """\
# Stages in another order, keys too; another style.
stages:
  two: {outs: [two.out], env: [TOKEN], deps: ["stage:one", "py:code/run.py"],
        cmd: 'cat  code/run.py   one.out > two.out;  echo "$TOKEN" >> two.out'}
  three:
    deps:
      - stage:two
    outs:
      - three.out
    desc: It was moved.
    when: ["steps.three and 'x' in steps.names"]
    cmd: cp  two.out  three.out
  one:
    outs: ["one.out"]   # as before
    deps:
      - maybe.txt: {optional: true}
      - "glob:src/**/*.txt"
    cmd:
      - |
        cat src/*.txt > one.out
"""})  # fmt: skip
    assert sorted(how for _, how, _ in turns(project)) == ["not wanted", "unchanged", "unchanged"]


def test_what_wildcards_name(project: Project, put: Put) -> None:
    put({name: name for name in ("a.txt", "b.csv", "d/c.txt", "d/e/f.txt", "d/e/g.csv", ".h/i.txt", "d/.dvcx-no/j.txt")})
    index = project.stat_index(ignore)

    def names(pattern: str, *passed: str) -> list[str]:
        return sorted(matching(project, pattern, passed, index=index, rules=project.rules()))

    assert names("*.txt") == ["a.txt"]
    assert names("**/*.txt") == [".h/i.txt", "a.txt", "d/.dvcx-no/j.txt", "d/c.txt", "d/e/f.txt"]
    assert names("d/*.txt") == ["d/c.txt"]
    assert names("d/**") == ["d/.dvcx-no/j.txt", "d/c.txt", "d/e/f.txt", "d/e/g.csv"]
    assert names("d/e") == names("d/e/*") == names("d/[e]") == ["d/e/f.txt", "d/e/g.csv"]
    assert names("**/*.txt", "d/e", "a.txt") == [".h/i.txt", "d/.dvcx-no/j.txt", "d/c.txt"]
    assert names("absent/*.txt") == []
    os.symlink("d", Path(project.root, "link"))
    assert names("link/*.txt") == []
    first = matching(project, "d/*.txt", (), index=index, rules=project.rules())
    put({"d/c.txt": "other"})
    assert matching(project, "d/*.txt", (), index=index, rules=project.rules()) != first
    index.close()


def test_a_wildcard_over_tracked_data(project: Project, put: Put) -> None:
    put({"raw/a.csv": "1", "raw/b.csv": "2", "dvcx.yaml": "stages:\n  sum:\n    cmd: cat raw/*.csv > sum\n"
         '    deps: ["glob:raw/*.csv"]\n    outs: [sum]\n'})  # fmt: skip
    add(project, ["raw"])
    turns(project)
    assert status(project).clean
    put({"raw/a.csv": "3"})
    assert turns(project) == [("sum", "ran", ("raw/a.csv: changed (glob:raw/*.csv)",))]
    assert status(project).clean


def test_a_wildcard_over_data_that_was_never_pulled(project: Project, put: Put) -> None:
    put({"raw/a.csv": "1", "raw/deep/b.csv": "2", "raw/no.txt": "", "dvcx.yaml": "stages:\n  sum:\n    cmd: cat raw/*.csv > sum\n"
         '    deps: ["glob:raw/**/*.csv"]\n    outs: [sum]\n'})  # fmt: skip
    add(project, ["raw"])
    turns(project)
    shutil.rmtree(Path(project.root, "raw"))
    assert words(project) == {"sum": ("glob:raw/**/*.csv: no file matches",)}
    os.unlink(Path(project.state_dir, "tracked.json"))
    assert words(project) == {}
    put({"dvcx.yaml": Path(project.root, "dvcx.yaml").read_text().replace("cat raw", "cat  -u raw")})
    (run,) = repro(project).runs
    assert run.how == "failed" and "is not all here" in run.error and "dvcx pull raw/" in run.error


def test_what_a_wildcard_needs_is_made_first(project: Project, put: Put) -> None:
    put({"dvcx.yaml": """\
stages:
  join: {cmd: "cat parts/*.txt > all", deps: ["glob:parts/*.txt"], outs: [all]}
  split: {cmd: "mkdir -p parts && echo 1 > parts/a.txt && cp n parts/b.txt", deps: [n], outs: [parts]}
""", "n": "2"})  # fmt: skip
    told = {stage.stage: stage.reasons for stage in status(project).stages}
    assert told["join"][0] == "never run" and "glob:parts/*.txt: no file matches" not in told["join"]
    assert [(name, how) for name, how, _ in turns(project)] == [("split", "ran"), ("join", "ran")]
    put({"n": "3"})
    assert turns(project)[1] == ("join", "ran", ("parts/b.txt: changed (glob:parts/*.txt)",))


def test_a_wildcard_that_matches_nothing(project: Project, put: Put) -> None:
    put({"dvcx.yaml": 'stages:\n  s:\n    cmd: touch o\n    deps: ["glob:x/*.csv"]\n    outs: [o]\n'})
    assert words(project) == {"s": ("never run", "glob:x/*.csv: no file matches")}
    (run,) = repro(project).runs
    assert (run.how, run.error.splitlines()[0]) == ("failed", "dvcx.yaml:4:12: stage 's': glob:x/*.csv: no file matches")
    put({"dvcx.yaml": 'stages:\n  s:\n    cmd: touch o\n    deps: [{"glob:x/*.csv": {optional: true}}]\n    outs: [o]\n'})
    assert turns(project)[0][1] == "ran"


def test_an_input_of_a_wildcard_that_changes_meanwhile(project: Project, put: Put) -> None:
    put({"x/a": "1", "dvcx.yaml": 'stages:\n  s:\n    cmd: echo 2 > x/a; touch o\n    deps: ["glob:x/*"]\n    outs: [o]\n'})
    (run,) = repro(project).runs
    assert run.how == "failed" and "its dependency x/a changed while the command ran" in run.error


@pytest.mark.parametrize(
    ("stage", "error", "message", "hint"),
    [
        ("when: steps.tree", UsageError, "dvcx.yaml:4:11: stage 's': when: there is no parameter", "mean 'steps.three'?"),
        ("when: steps.three ==", UsageError, "dvcx.yaml:4:11: stages.s.when: in 'steps.three =='", "for example"),
        ("when: [steps.three, a &&]", UsageError, "dvcx.yaml:4:25: stages.s.when[1]: in 'a &&'", "write 'and'"),
        ("when: other.yaml:k", NotFound, "dvcx.yaml:4:11: stage 's': when: the parameter file other.yaml is missing", ""),
        ("deps: ['stage:tow']\n  two: {cmd: x}", NotFound, "dvcx.yaml:4:12: stage 's': there is no stage 'tow'", "mean 'two'?"),
    ],
)  # fmt: skip
def test_mistakes(project: Project, put: Put, stage: str, error: type[Exception], message: str, hint: str) -> None:
    put({"dvcx.yaml": f"stages:\n  s:\n    cmd: x\n    {stage}\n", "params.yaml": "steps: {three: true}\n"})
    with pytest.raises(error) as caught:
        status(project)
    assert message in caught.value.message  # type: ignore[attr-defined]
    assert hint in caught.value.hint  # type: ignore[attr-defined]


def test_digests_of_the_environment() -> None:
    found = environment_digests(["A", "B", "C"], {"A": "x", "B": "x"})
    assert found["C"] == "" and len(found["A"]) == 64 and found["A"] != found["B"]


MAP = """\
stages:
  clean:
    foreach: glob:data/raw/*.csv
    do:
      cmd: cat rules ${item} > data/clean/${item.stem}.txt; echo ${item.name} >> ran
      deps: [rules]
      outs: ["data/clean/${item.stem}.txt"]
  all:
    cmd: cat data/clean/*.txt > all.txt
    deps: ["stage:clean"]
    outs: [all.txt]
"""


def ran(project: Project) -> list[str]:
    file = Path(project.root, "ran")
    names = sorted(file.read_text().splitlines()) if file.exists() else []
    file.unlink(missing_ok=True)
    return names


def test_a_map_runs_new_and_changed_items_only(project: Project, put: Put) -> None:
    put({"dvcx.yaml": MAP, "rules": "r", "data/raw/a.csv": "1", "data/raw/b $(touch PWNED).csv": "2", "data/raw/no.txt": ""})
    assert [run.how for run in repro(project).runs] == ["ran"] * 3
    assert ran(project) == ["a.csv", "b $(touch PWNED).csv"]
    assert not Path(project.root, "PWNED").exists()
    assert status(project).clean
    text = Path(project.root, "dvcx.lock").read_text()
    assert len([line for line in text.splitlines() if line.startswith('    "clean@')]) == 2
    put({"data/raw/a.csv": "3", "data/raw/c.csv": "4"})
    assert words(project)["clean@a.csv"] == ("data/raw/a.csv: changed",)
    repro(project)
    assert ran(project) == ["a.csv", "c.csv"]
    put({"rules": "s"})
    repro(project, ["clean"])
    assert ran(project) == ["a.csv", "b $(touch PWNED).csv", "c.csv"]
    os.unlink(Path(project.root, "data/raw/c.csv"))
    assert "data/clean/c.txt is no longer a dependency" in words(project)["all"]
    repro(project)
    assert ran(project) == [] and status(project).clean


def test_a_map_whose_items_were_never_pulled_is_that_of_the_lock(project: Project, put: Put) -> None:
    put({"dvcx.yaml": MAP, "rules": "r", "data/raw/a.csv": "1"})
    add(project, ["data/raw"])
    repro(project)
    commit_all(project, "all")
    known = {stage.stage for stage in status(project).stages}
    shutil.rmtree(Path(project.root, "data/raw"))
    assert {stage.stage for stage in status(project).stages} == known == {"clean@a.csv", "all"}
    from dvcx.ops import records

    assert {stage.address for stage in records.load(project, "HEAD").stages} == known


WRITES = """
  raw:
    cmd: mkdir -p data/raw && for n in $(cat wanted); do echo $n > data/raw/$n.csv; done
    deps: [wanted]
    outs: [data/raw]
"""


def test_a_map_over_what_another_stage_writes(project: Project, put: Put) -> None:
    """Its items are known once that stage has run: one repro is enough, from nothing and after a change."""
    put({"dvcx.yaml": MAP + WRITES, "rules": "r", "wanted": "a b"})
    assert {stage.stage for stage in status(project).stages} == {"raw", "all"}
    done = repro(project, jobs=2).runs
    assert [run.stage for run in done] == ["raw", "clean@a.csv", "clean@b.csv", "all"] and {run.how for run in done} == {"ran"}
    assert ran(project) == ["a.csv", "b.csv"] and status(project).clean
    put({"wanted": "b c d"})
    repro(project, ["clean@c.csv"])
    assert ran(project) == ["c.csv"]
    assert [run.stage for run in repro(project).runs if run.how != "unchanged"] == ["clean@d.csv", "all"]
    put({"wanted": "$(exit 1)", "dvcx.yaml": MAP + WRITES.replace("mkdir", "false && mkdir")})
    failed = repro(project, keep_going=True)
    assert {run.stage: run.how for run in failed.runs} == {
        "raw": "failed",
        **dict.fromkeys(("clean@b.csv", "clean@c.csv", "clean@d.csv", "all"), "skipped"),
    }


def test_a_file_that_comes_up_beside_the_outputs_is_told(project: Project, put: Put, events: list[Any]) -> None:
    put({"dvcx.yaml": MAP.replace("; echo", "; touch data/raw/z.csv; echo"), "rules": "r", "data/raw/a.csv": "1"})
    repro(project, emit=events.append)
    told = [event.message for event in events if isinstance(event, Noted)]
    assert told == ["clean: a file came up meanwhile (data/raw/z.csv): run dvcx repro again"]


@pytest.mark.parametrize("foreach", ["glob:../x/*", "glob:/x/*"])
def test_mistakes_in_a_map(project: Project, put: Put, foreach: str) -> None:
    put({"dvcx.yaml": f"stages:\n  s:\n    foreach: {foreach}\n    do: {{cmd: x}}\n"})
    with pytest.raises(DvcxError) as caught:
        status(project)
    assert caught.value.message.startswith("dvcx.yaml:3:14: stages.s.foreach: unsafe path")


def test_a_condition_on_what_a_stage_writes(project: Project, put: Callable[..., None]) -> None:
    put({"n": "5", "dvcx.yaml": """\
stages:
  gated: {cmd: echo > big, when: "conf.yaml:size > 3", outs: [big]}
  make: {cmd: "echo size: $(cat n) > conf.yaml", deps: [n], outs: [conf.yaml]}
"""})  # fmt: skip

    def foretold() -> dict[str, str]:
        return {stage.stage: stage.plan for stage in status(project).stages}

    assert foretold() == {"make": "would run", "gated": "might run"}
    assert [run.how for run in repro(project).runs] == ["ran", "ran"]
    put({"n": "2"})
    assert foretold() == {"make": "would run", "gated": "might run"}
    assert [run.how for run in repro(project).runs] == ["ran", "not wanted"]
    assert foretold() == {"make": "unchanged", "gated": "not wanted"}
    put({"n": "5"})
    assert foretold() == {"make": "would restore", "gated": "might run"}
    assert [run.how for run in repro(project).runs] == ["restored", "unchanged"]
    os.unlink(f"{project.root}/conf.yaml")
    failed = repro(project, ["gated"], single_item=True).runs[0]
    assert failed.how == "failed" and "the parameter file conf.yaml is missing" in failed.error and "dvcx repro" in failed.error
