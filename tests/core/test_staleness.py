"""Why a stage is stale: one reason per cause, in words; what a run would do; keys of actions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.objects import BLOB, TREE, Content
from dvcx.core.pipeline.graph import build, order
from dvcx.core.pipeline.schema import Out, ParamsOf, Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import (
    FRESH,
    MAYBE,
    MISSING_OUTS,
    STALE,
    Snapshot,
    action_key,
    forecast,
    judge,
    lock_entry,
)
from dvcx.errors import NotFound


def content(text: str, *, kind: str = BLOB, executable: bool = False) -> Content:
    digit = f"{ord(text[0]) & 0xF:x}"
    return Content(kind, "xxh128:" + digit * 32, digit * 64, len(text), executable=executable)


STAGE = Stage(
    "train",
    "dvcx.yaml",
    "python train.py",
    deps=("data.csv", "lib"),
    outs=(Out("model.pkl"), Out("scores.json", metric=True)),
    params=(ParamsOf("params.yaml", ("train.lr", "train.epochs")), ParamsOf("config.json")),
)
PARAMS: dict[str, Any] = {
    "params.yaml": {"train": {"lr": 0.1, "epochs": 3, "other": 1}},
    "config.json": {"a": {"b": 1, "c": [1]}, "name": "x"},
}
NOW = Snapshot(
    {"data.csv": content("1"), "lib": content("2", kind=TREE), "model.pkl": content("3"), "scores.json": content("4")}, PARAMS
)
LOCKED = lock_entry(STAGE, NOW, NOW)


def texts(stage: Stage, locked: LockEntry | None, now: Snapshot) -> list[str]:
    return [reason.text for reason in judge(stage, locked, now)]


def changed(**contents: Content | None) -> Snapshot:
    names = {"data": "data.csv", "model": "model.pkl", "lib": "lib"}
    return NOW._replace(contents={**NOW.contents, **{names[key]: value for key, value in contents.items()}})


def with_params(file: str, values: dict[str, Any] | None) -> Snapshot:
    return NOW._replace(params={**PARAMS, file: values})


def with_cmd(cmd: str | tuple[str, ...]) -> Stage:
    return STAGE._replace(cmd=cmd)


def test_nothing_changed() -> None:
    assert judge(STAGE, LOCKED, NOW) == ()
    assert LOCKED.params == {"params.yaml": {"train.lr": 0.1, "train.epochs": 3}, "config.json": PARAMS["config.json"]}


def test_never_run() -> None:
    assert texts(STAGE, None, NOW) == ["never run"]
    assert texts(STAGE, None, Snapshot({}, {"config.json": {}})) == [
        "never run",
        "data.csv: is missing",
        "lib: is missing",
        "params.yaml: is missing",
    ]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (changed(data=content("9")), ["data.csv: changed"]),
        (changed(lib=content("9", kind=TREE))._replace(details={"lib": "2 files changed"}), ["lib: 2 files changed"]),
        (changed(lib=content("9")), ["lib: it was a directory and is a file now"]),
        (changed(data=content("1", executable=True)), ["data.csv: it may be executed now"]),
        (changed(data=None), ["data.csv: is missing"]),
        (changed(model=None), ["model.pkl: output is missing"]),
        (changed(model=content("9")), ["model.pkl: output is not as recorded"]),
        (changed(model=content("9"))._replace(details={"model.pkl": "1 file changed"}),
         ["model.pkl: output is not as recorded (1 file changed)"]),
        (changed(data=content("8"), model=None), ["data.csv: changed", "model.pkl: output is missing"]),
        (with_params("params.yaml", {"train": {"lr": 0.2, "epochs": 3}}), ["params.yaml: train.lr 0.1 → 0.2"]),
        (with_params("params.yaml", {"train": {"lr": None, "epochs": "3"}}),
         ["params.yaml: train.lr 0.1 → null", "params.yaml: train.epochs 3 → '3'"]),
        (with_params("params.yaml", {"train": {"epochs": 3}}), ["params.yaml: train.lr is missing"]),
        (with_params("params.yaml", None), ["params.yaml: is missing"]),
        (with_params("params.yaml", {"train": {"lr": {"x": 1}, "epochs": 3}}), ['params.yaml: train.lr 0.1 → {"x": 1}']),
        (with_params("config.json", {"a": {"b": 2, "c": [1]}, "name": "x"}), ["config.json: a.b 1 → 2"]),
        (with_params("config.json", {"a": {"b": 1}, "more": True}),
         ["config.json: a.c removed (was [1])", "config.json: more added (true)", "config.json: name removed (was 'x')"]),
        (with_params("config.json", {"name": "x", "a": {"c": [1], "b": 1}}), []),
    ],
)  # fmt: skip
def test_one_reason_per_cause(now: Snapshot, expected: list[str]) -> None:
    assert texts(STAGE, LOCKED, now) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a", "b", ["command changed: 'a' → 'b'"]),
        ("python  train.py", " python train.py\n", []),
        ("a \\\n  b", "a b", []),
        ("a\n\n  b", "a\nb\n", []),
        ("a\nb", "a b", ["command changed: 'a\\nb' → 'a b'"]),
        ("echo 'x  y'", "echo 'x y'", ["command changed: 'echo 'x  y'' → 'echo 'x y''"]),
        ('echo "x  y"', 'echo  "x  y"', []),
        ("echo x\\  y", "echo x\\ y", ["command changed: 'echo x\\  y' → 'echo x\\ y'"]),
        ("echo # it's  x", "echo # it's x", ["command changed: 'echo # it's  x' → 'echo # it's x'"]),
        ("cat <<E\n a\nE", "cat <<E\n  a\nE", ["command changed: 'cat <<E\\n a\\nE' → 'cat <<E\\n  a\\nE'"]),
        (("a", "b"), ("a", " b "), []),
        ("a", ("a",), []),
        (("a", "b"), ("a", "c"), ["command changed: 'a && b' → 'a && c'"]),
        (("a", "b"), "a", ["command changed: 'a && b' → 'a'"]),
    ],
)
def test_commands(old: str | tuple[str, ...], new: str | tuple[str, ...], expected: list[str]) -> None:
    locked = LOCKED._replace(cmd=old)
    assert texts(with_cmd(new), locked, NOW) == expected


def test_a_long_command_is_shown_where_it_differs() -> None:
    (text,) = texts(with_cmd("x" * 500 + "B"), LOCKED._replace(cmd="x" * 500 + "A"), NOW)
    assert text == f"command changed: '…{'x' * 40}A' → '…{'x' * 40}B'"


def test_what_a_stage_declares_may_change() -> None:
    more = STAGE._replace(
        deps=(*STAGE.deps, "new.csv"),
        outs=(*STAGE.outs, Out("new.txt")),
        params=(
            ParamsOf("params.yaml", ("train.lr", "train.epochs", "train.other")),
            ParamsOf("config.json"),
            ParamsOf("x.toml", ("k",)),
        ),
    )
    now = Snapshot({**NOW.contents, "new.csv": content("7"), "new.txt": content("7")}, {**PARAMS, "x.toml": {"k": 1}})
    assert texts(more, LOCKED, now) == [
        "new dependency new.csv",
        "new parameter params.yaml: train.other",
        "new parameter x.toml: k",
        "new output new.txt",
    ]
    assert texts(STAGE, lock_entry(more, now, now), NOW) == [
        "new.csv is no longer a dependency",
        "params.yaml: train.other is no longer a parameter",
        "x.toml: k is no longer a parameter",
        "new.txt is no longer an output",
    ]
    whole = STAGE._replace(params=(*STAGE.params, ParamsOf("all.toml")))
    assert texts(whole, LOCKED, with_params("all.toml", {})) == ["new parameters all.toml"]


def test_always_changed_and_frozen() -> None:
    assert texts(STAGE._replace(always_changed=True), LOCKED, NOW) == ["always_changed"]
    assert texts(Stage("x", "dvcx.yaml", "date"), LockEntry("date", {}, {}, {}), NOW) == [
        "it has neither dependencies nor outputs, so it always runs"
    ]
    frozen = STAGE._replace(frozen=True, cmd="other")
    assert texts(frozen, None, changed(data=None)) == []
    assert texts(frozen, LOCKED, changed(model=None)) == ["model.pkl: output is missing"]


def test_names_cannot_paint_the_terminal() -> None:
    stage = Stage("a", "dvcx.yaml", "x", deps=("\x1b[31m",))
    assert texts(stage, None, Snapshot({})) == ["never run", "\\x1b[31m: is missing"]


# Forecasts

EXTRACT = Stage("extract", "dvcx.yaml", "e", deps=("raw",), outs=(Out("rows"),))
TRAIN = Stage("train", "dvcx.yaml", "t", deps=("rows",), outs=(Out("model"),))
SCORE = Stage("score", "dvcx.yaml", "s", deps=("model",), outs=(Out("scores"),))
STAGES = build([SCORE, TRAIN, EXTRACT])
ALL = Snapshot({name: content(name) for name in ("raw", "rows", "model", "scores")})
LOCK = {stage.address: lock_entry(stage, ALL, ALL) for stage in (EXTRACT, TRAIN, SCORE)}


def told(now: Snapshot, lock: dict[str, LockEntry] = LOCK, graph: Any = STAGES) -> list[tuple[str, str, list[str]]]:
    verdicts = forecast(order(graph), lock, now, graph.upstream)
    return [(verdict.stage.name, verdict.state, [reason.text for reason in verdict.reasons]) for verdict in verdicts]


def without(*names: str, **others: Content) -> Snapshot:
    return Snapshot({**{name: found for name, found in ALL.contents.items() if name not in names}, **others})


def test_a_fresh_pipeline() -> None:
    assert told(ALL) == [("extract", FRESH, []), ("train", FRESH, []), ("score", FRESH, [])]


def test_a_change_is_a_maybe_downstream() -> None:
    assert told(without(raw=content("z"))) == [
        ("extract", STALE, ["raw: changed"]),
        ("train", MAYBE, ["rows will be rewritten by extract"]),
        ("score", MAYBE, ["model may be rewritten by train"]),
    ]


def test_outputs_to_put_back() -> None:
    assert told(without("rows", "model", "scores")) == [
        ("extract", MISSING_OUTS, ["rows: output is missing"]),
        ("train", MISSING_OUTS, ["model: output is missing", "rows will be restored by extract"]),
        ("score", MISSING_OUTS, ["scores: output is missing", "model will be restored by train"]),
    ]


def test_a_new_pipeline_names_what_is_really_missing() -> None:
    assert told(without("raw", "rows", "model", "scores"), {}) == [
        ("extract", STALE, ["never run", "raw: is missing"]),
        ("train", STALE, ["never run", "rows will be rewritten by extract"]),
        ("score", STALE, ["never run", "model will be rewritten by train"]),
    ]


def test_a_frozen_stage_stops_the_wave() -> None:
    graph = build([SCORE, TRAIN._replace(frozen=True), EXTRACT])
    assert [state for _, state, _ in told(without(raw=content("z")), graph=graph)] == [STALE, FRESH, FRESH]


def test_asking_a_part_asks_only_about_that_part() -> None:
    (verdict,) = forecast([TRAIN], LOCK, without(raw=content("z")), STAGES.upstream)
    assert verdict.state == FRESH


# Keys and entries


def test_the_key_is_canonical() -> None:
    stage = STAGE._replace(wdir="w", deps=("lib", "data.csv"), desc="words", outs=STAGE.outs[::-1])
    key = action_key(stage, changed(data=content("1", executable=True)))
    one, two = content("1"), content("2")
    assert json.loads(key) == {
        "dvcx": 1,
        "cmd": "python train.py",
        "wdir": "w",
        "deps": [
            ["data.csv", "blob", one.id, one.seal, one.size, 1, True],
            ["lib", "tree", two.id, two.seal, two.size, 1, False],
        ],
        "params": {"params.yaml": {"train.lr": 0.1, "train.epochs": 3}, "config.json": PARAMS["config.json"]},
        "outs": ["model.pkl", "scores.json"],
    }
    assert key == json.dumps(json.loads(key), sort_keys=True, separators=(",", ":")).encode()
    assert action_key(STAGE, NOW) == action_key(STAGE._replace(desc="x", deps=STAGE.deps[::-1], places="9:1"), NOW)
    assert action_key(STAGE, NOW) != action_key(with_cmd("x"), NOW)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (changed(data=None), "dvcx.yaml: stage 'train': data.csv: is missing"),
        (with_params("params.yaml", None), "dvcx.yaml: stage 'train': params.yaml: is missing"),
        (with_params("params.yaml", {"train": {"lr": 1}}), "dvcx.yaml: stage 'train': params.yaml: train.epochs is missing"),
    ],
)
def test_without_its_inputs_there_is_no_key_and_no_entry(now: Snapshot, says: str) -> None:
    for ask in (lambda: action_key(STAGE, now), lambda: lock_entry(STAGE, now, NOW)):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.message == says
    with pytest.raises(NotFound, match=r"model\.pkl: output is missing"):
        lock_entry(STAGE, NOW, changed(model=None))


_contents = st.sampled_from([None, content("1"), content("2"), content("3", kind=TREE)])
_values = st.none() | st.integers(0, 2) | st.floats() | st.just({"x": 1})
_params = st.none() | st.dictionaries(st.sampled_from("kl"), _values)
_now = st.tuples(
    st.dictionaries(st.sampled_from("abcd"), _contents), st.dictionaries(st.sampled_from("pq"), _params)
).map(lambda parts: Snapshot(*parts))
_subset = st.lists(st.sampled_from("ab"), unique=True).map(tuple)
_stage = st.builds(
    lambda cmd, **given: Stage("s", "dvcx.yaml", cmd, **given),
    st.sampled_from(["x", "y  z", ("x", "y")]),
    deps=_subset,
    outs=st.lists(st.sampled_from("cd").map(Out), unique=True).map(tuple),
    params=st.lists(
        st.builds(ParamsOf, st.sampled_from("pq"), st.sampled_from([(), ("k",), ("l", "k.x")])), unique_by=lambda of: of.file
    ).map(tuple),
)


@given(_stage, _now, _now)
def test_what_ran_is_fresh_until_something_differs(stage: Stage, before: Snapshot, later: Snapshot) -> None:
    """Right after a run it is fresh; later it is fresh only if its key and its outputs are the same."""
    try:
        locked = lock_entry(stage, before, before)
    except NotFound:
        assert judge(stage, None, before)
        return
    reasons = judge(stage, locked, before)
    assert [reason for reason in reasons if reason.kind != "always_changed"] == []
    assert len({reason.text for reason in reasons}) == len(reasons)
    try:
        same = action_key(stage, before) == action_key(stage, later)
        same = same and all(later.contents.get(out.path) == before.contents.get(out.path) for out in stage.outs)
    except NotFound:
        same = False
    fresh = not [reason for reason in judge(stage, locked, later) if reason.kind != "always_changed"]
    assert fresh == same
