"""why: the tree of reasons of stages and paths, down to a file, a word and the stage it began with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dvcx.core.staleness import Reason, Verdict
from dvcx.errors import NotFound, UsageError
from dvcx.ops.add import add
from dvcx.ops.causes import Cause, Causes
from dvcx.ops.init import init
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.ops.why import why
from dvcx.project import Project, open_project

PIPELINE = """\
stages:
  extract:
    cmd: tr a-z A-Z < raw.csv > rows
    deps: [raw.csv]
    outs: [rows]
  train:
    cmd: cat rows images/* > model
    deps: [rows, images, code.py]
    params: [lr, net.depth]
    outs: [model]
  score:
    cmd: wc -c < model > scores
    deps: [model]
    outs: [scores]
"""


def write(project: Project, tree: dict[str, str]) -> None:
    for path, text in tree.items():
        file = Path(project.root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def ran(tmp_path: Path) -> Project:
    """raw.csv → extract → rows, with images and code.py → train → model → score; all of it has run."""
    init(str(tmp_path), git=False)
    project = open_project(str(tmp_path))
    images = {f"images/{number}": f"image {number}\n" for number in range(20)}
    write(project, {"raw.csv": "h\na\n", "code.py": "x = 1\n", "params.yaml": "lr: 1\nnet: {depth: 3}\n", **images})
    write(project, {"dvcx.yaml": PIPELINE})
    add(project, ["raw.csv", "images"])
    assert not repro(project).failed
    return project


def lines(causes: tuple[Cause, ...], indent: str = "") -> list[str]:
    return [line for cause in causes for line in (indent + cause.text, *lines(cause.causes, indent + "  "))]


def stage_lines(project: Project, target: str, **options: int) -> list[str]:
    (answer,) = why(project, [target], **options).stages
    return [f"{answer.stage} {answer.plan}", *lines(answer.causes)]


def test_a_fresh_stage_says_what_was_compared(ran: Project) -> None:
    told = stage_lines(ran, "train")
    assert told[0] == "train unchanged" and told[1] == "command: as in its last run"
    assert "images: as it was read (170 B, 20 files)" in told and "params.yaml: lr is 1 still" in told
    assert told[-1].startswith("model: as it was written")


def test_down_to_the_file_the_word_and_the_source(ran: Project) -> None:
    write(ran, {"raw.csv": "h\na\nb\n", "params.yaml": "lr: 2\nnet: {depth: 3}\n", "code.py": "x = 2\n"})
    write(ran, {"images/3": "other\n", "images/new": "new\n", "dvcx.yaml": PIPELINE.replace("cat rows", "cat -u rows")})
    Path(ran.root, "images/5").rename(Path(ran.root, "images/50"))
    Path(ran.root, "images/6").unlink()
    found = why(ran, ["train"])
    assert lines(found.stages[0].causes) == [
        "command changed: 'cat rows images/* > model' → 'cat -u rows images/* > model'",
        "  '-u' is new",
        "images: 1 file changed, 1 added, 1 deleted, 1 renamed",
        "  modified images/3 (8 → 6 bytes)",
        "  renamed images/50 (was images/5)",
        "  deleted images/6 (8 B)",
        "  added images/new (4 B)",
        "code.py: changed",
        "params.yaml: lr 1 → 2",
        "rows will be rewritten by extract",
        "  raw.csv: 1 row added",
    ]
    assert (found.run, found.restore, found.might_run) == (("extract", "train"), (), ())
    lr = found.stages[0].causes[3]
    assert (lr.kind, lr.subject, lr.old, lr.new) == ("param_changed", "params.yaml:lr", 1, 2)
    assert stage_lines(ran, "score")[:3] == [
        "score might run",
        "model will be rewritten by train",
        "  " + lines(found.stages[0].causes)[0],
    ]
    json.dumps(asdict(found))


def test_the_same_words_everywhere(ran: Project) -> None:
    write(ran, {"raw.csv": "h\nb\n", "params.yaml": "lr: 2\nnet: {depth: 3}\n"})
    told = {answer.stage: tuple(cause.text for cause in answer.causes) for answer in why(ran, ["dvcx.yaml"]).stages}
    plans = {answer.stage: answer.plan for answer in why(ran, ["dvcx.yaml"]).stages}
    assert told == {stage.stage: stage.reasons for stage in status(ran).stages}
    assert told == {turn.stage: turn.reasons for turn in repro(ran, dry_run=True).runs}
    assert plans == {stage.stage: stage.plan for stage in status(ran).stages}
    assert plans == {turn.stage: turn.how for turn in repro(ran, dry_run=True).runs}
    assert plans == {"extract": "would run", "train": "would run", "score": "might run"}


def test_what_is_known_would_be_restored_and_goes_on_from_there(ran: Project) -> None:
    write(ran, {"raw.csv": "h\nb\n"})
    repro(ran)
    write(ran, {"raw.csv": "h\na\n"})
    found = why(ran, ["score"])
    # Everything has been seen before: extract's result leads to train's, and that to score's.
    assert found.restore == ("extract", "train", "score") and found.run == found.might_run == ()
    assert stage_lines(ran, "train") == [
        "train would restore",
        "rows: changed",
        "  1 line changed",
        "  extract would restore it",
        "    raw.csv: 1 row changed",
    ]
    assert [turn.how for turn in repro(ran, dry_run=True).runs] == ["would restore"] * 3
    assert [turn.how for turn in repro(ran).runs] == ["restored"] * 3
    # What comes back as it was stops the wave: nothing downstream has a reason.
    Path(ran.root, "rows").unlink()
    assert why(ran, ["score"]).restore == ("extract",)


def test_paths(ran: Project) -> None:
    write(ran, {"images/3": "other\n"})
    (answer,) = why(ran, ["images/3"]).paths
    assert (answer.kind, answer.owner, answer.by) == ("pointer", "images", "images.dvcx")
    assert answer.state == "modified since it was recorded" and answer.read_by == ("train",)
    (answer,) = why(ran, ["images.dvcx"]).paths
    assert (answer.path, answer.state) == ("images", "modified: 1 file changed")
    assert lines(answer.causes) == ["modified images/3 (8 → 6 bytes)"]
    assert why(ran, ["images/4"]).paths[0].state == "as recorded"
    found = why(ran, ["model"])
    assert (found.paths[0].kind, found.paths[0].by, found.paths[0].state) == ("output", "train", "as recorded")
    assert [stage.stage for stage in found.stages] == ["train"] and found.run == ("train",)
    Path(ran.root, "model").write_text("by hand")
    assert why(ran, ["model"]).paths[0].state == "output is not as recorded"
    (answer,) = why(ran, ["code.py"]).paths
    assert (answer.kind, answer.owner, answer.state, answer.read_by) == ("read", "", "not tracked by dvcx", ("train",))
    write(ran, {"code.py": "x = 3\n"})
    assert why(ran, ["code.py"]).paths[0].state == "not tracked by dvcx, not as train read it"


def test_what_no_record_knows(ran: Project) -> None:
    for word, meant in (("trian", "train"), ("modle", "model"), ("raw.cvs", "raw.csv")):
        with pytest.raises(NotFound, match=f"no record knows '{word}'") as caught:
            why(ran, [word])
        assert caught.value.hint == f"did you mean '{meant}'?"
    with pytest.raises(UsageError):
        why(ran, [])


def test_lists_are_bounded_and_counted(ran: Project) -> None:
    write(ran, {f"images/more{number}": f"{number}" for number in range(30)})
    told = stage_lines(ran, "train", limit=5)
    assert told[1] == "images: 30 files added" and len(told) == 8 and told[-1] == "  and 25 more"
    assert len(stage_lines(ran, "train", limit=0)) == 32
    (cause,) = why(ran, ["train"], limit=5).stages[0].causes
    assert (cause.causes[-1].kind, cause.causes[-1].new) == ("more", 25)


def test_a_kind_of_reason_that_nobody_knows_yet_is_told(ran: Project) -> None:
    from dvcx.core.pipeline.graph import build
    from dvcx.ops.placed import Parts
    from dvcx.ops.records import load

    tracked = load(ran)
    index = ran.stat_index(lambda event: None)
    parts = Parts(ran, tracked, index, lambda event: None)
    inner = Reason("moon", "phase", "the moon is full", 1, {"a": (1, 2)})
    verdicts = {
        "train": Verdict(tracked.stages[1], "stale", (Reason("sky", "", "the sky changed", details=(inner,)),), "would run")
    }
    causes = Causes(ran, build(tracked.stages), verdicts, parts, lambda event: None, limit=3)
    told = causes.of(verdicts["train"].reasons, stage="train")
    assert lines(told) == ["the sky changed", "  the moon is full"] and told[0].causes[0].new == '{"a":[1,2]}'
    causes.close()
    parts.close()
    index.close()


def test_wildcards_variables_and_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(str(tmp_path), git=False)
    project = open_project(str(tmp_path))
    text = "stages:\n  s:\n    cmd: cat src/* > out\n    deps: ['glob:src/*.txt']\n    env: [FLAVOUR]\n    outs: [out]\n"
    text += "  t:\n    cmd: cp out end\n    deps: [out]\n    outs: [end]\n    when: full\n"
    write(project, {"src/a.txt": "a", "src/b.txt": "b", "dvcx.yaml": text, "params.yaml": "full: false\n"})
    monkeypatch.setenv("FLAVOUR", "sweet")
    assert not repro(project).failed
    told = stage_lines(project, "s")
    assert "glob:src/*.txt: 2 files as they were" in told and "environment variable FLAVOUR: as it was" in told
    found = why(project, ["t"])
    assert found.run == found.might_run == () and found.stages[0].plan == "not wanted"
    monkeypatch.setenv("FLAVOUR", "sour")
    write(project, {"src/c.txt": "c"})
    assert why(project, ["s"]).run == ("s",) and len(why(project, ["s"]).stages[0].causes) == 2


def test_a_long_chain_is_told_from_its_source(tmp_path: Path) -> None:
    init(str(tmp_path), git=False)
    project = open_project(str(tmp_path))
    stages = [f"  s{at}:\n    cmd: cp f{at} f{at + 1}\n    deps: [f{at}]\n    outs: [f{at + 1}]\n" for at in range(1500)]
    write(project, {"f0": "x", "dvcx.yaml": "stages:\n" + "".join(stages)})
    told = stage_lines(project, "s1499")
    assert told[1:3] == ["never run", "f1499 will be rewritten by s1498"]
    # Twelve stages one in another, then where it all begins.
    assert [line.strip() for line in told[-3:]] == ["it begins 1,487 stages before, with s0", "never run", "and 1,485 more"]
    assert len(told) < 60
