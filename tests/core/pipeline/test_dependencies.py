"""Dependencies that are no plain path: edges they make, reasons they give, what they are in keys and locks."""

from __future__ import annotations

import pytest

from dvcx.core.globs import fixed_part
from dvcx.core.objects import BLOB, Content
from dvcx.core.pipeline.dependencies import link, may_match, not_read
from dvcx.core.pipeline.graph import build
from dvcx.core.pipeline.schema import Execution, Out, Stage, Want
from dvcx.core.reasons import compared
from dvcx.core.records import LockEntry, Used, decode_lock, encode_lock
from dvcx.core.staleness import DEP_MISSING, SKIPPED, Snapshot, action_key, forecast, judge, lock_entry
from dvcx.errors import Conflict, NotFound

CODE = "ab" * 32


def content(digit: str, *, executable: bool = False) -> Content:
    return Content(BLOB, "xxh128:" + digit * 32, digit * 64, 1, executable=executable)


def used(digit: str, code: str = "") -> Used:
    return Used(content(digit), code)


def stage(name: str, *wants: Want, deps: tuple[str, ...] = (), outs: tuple[str, ...] = ()) -> Stage:
    return Stage(name, "dvcx.yaml", name, deps=deps, outs=tuple(map(Out, outs)), wants=wants)


SOURCES = Want("glob", "src/**/*.py")
SCRIPT = Want("py", "train.py")
TRAIN = stage("train", SOURCES, SCRIPT, deps=("data", "maybe"), outs=("model",))._replace(
    optional=("maybe",),
    execution=Execution(env=("TOKEN",)),
)
NOW = Snapshot(
    {"data": content("1"), "maybe": None, "model": content("2")},
    used={
        ("train", "glob:src/**/*.py"): {"src/a.py": used("3"), "src/b.py": used("4")},
        ("train", "py:train.py"): {"train.py": used("5", CODE), "util.py": used("6", CODE)},
    },
    env={"TOKEN": "cd" * 32},
)
LOCKED = lock_entry(TRAIN, NOW, NOW)


def with_files(name: str, files: dict[str, Used]) -> Snapshot:
    return NOW._replace(used={**NOW.used, ("train", name): files})


def texts(now: Snapshot, one: Stage = TRAIN, locked: LockEntry | None = LOCKED) -> list[str]:
    return [reason.text for reason in judge(one, locked, now)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW, []),
        (with_files("glob:src/**/*.py", {"src/a.py": used("9"), "src/c.py": used("4")}),
         ["src/a.py: changed (glob:src/**/*.py)", "src/c.py: added (glob:src/**/*.py)", "src/b.py: removed (glob:src/**/*.py)"]),
        (with_files("glob:src/**/*.py", {}), ["glob:src/**/*.py: no file matches"]),
        (with_files("py:train.py", {"train.py": used("9", CODE), "util.py": used("8", CODE)}), []),
        (with_files("py:train.py", {"train.py": used("a", "ef" * 32), "new.py": used("8", CODE)}),
         ["new.py: is imported now (py:train.py)", "train.py: changed (py:train.py)",
          "util.py: is no longer imported (py:train.py)"]),
        (with_files("py:train.py", {}), ["py:train.py: is missing"]),
        (NOW._replace(contents={**NOW.contents, "maybe": content("7")}), ["maybe: was missing, and is there now"]),
        (NOW._replace(contents={**NOW.contents, "data": None}), ["data: is missing"]),
        (NOW._replace(env={"TOKEN": "12" * 32}), ["environment variable TOKEN changed"]),
        (NOW._replace(env={"TOKEN": ""}), ["environment variable TOKEN is no longer set"]),
    ],
)  # fmt: skip
def test_reasons(now: Snapshot, expected: list[str]) -> None:
    assert sorted(texts(now)) == sorted(expected)
    assert (action_key(TRAIN, now) == action_key(TRAIN, NOW)) == (not expected) if not now_missing(now) else True


def now_missing(now: Snapshot) -> bool:
    return any(reason.kind == DEP_MISSING for reason in judge(TRAIN, LOCKED, now))


def test_what_a_stage_declares_may_change() -> None:
    bare = stage("train", deps=("data",), outs=("model",))
    plain = lock_entry(bare, NOW, NOW)
    assert texts(NOW, locked=plain) == [
        "new dependency maybe, which is missing",
        "new dependency glob:src/**/*.py",
        "new dependency py:train.py",
        "new environment variable TOKEN",
    ]
    assert texts(NOW, bare) == [
        "maybe is no longer a dependency",
        "glob:src/**/*.py is no longer a dependency",
        "py:train.py is no longer a dependency",
        "environment variable TOKEN is no longer one of its inputs",
    ]
    present = NOW._replace(contents={**NOW.contents, "maybe": content("7")})
    assert texts(NOW, locked=lock_entry(TRAIN, present, present)) == ["maybe: was there, and is missing now"]
    required = TRAIN._replace(optional=())
    assert texts(NOW, required) == ["maybe: is missing"]


def test_what_was_compared() -> None:
    assert [reason.text for reason in compared(TRAIN, LOCKED, NOW)] == [
        "command: as in its last run",
        "data: as it was read (1 B)",
        "glob:src/**/*.py: 2 files as they were",
        "py:train.py: 2 files as they were",
        "maybe: missing, as it was",
        "environment variable TOKEN: as it was",
        "model: as it was written (1 B)",
    ]


def test_exact_compares_every_byte() -> None:
    exact = TRAIN._replace(wants=(SOURCES, SCRIPT._replace(exact=True)))
    bytes_now = with_files("py:train.py", {"train.py": used("5"), "util.py": used("6")})
    assert texts(bytes_now, exact) == []
    edited = with_files("py:train.py", {"train.py": used("9"), "util.py": used("6")})
    assert texts(edited, exact) == ["train.py: changed (py:train.py)"]


def test_an_optional_wildcard_may_match_nothing() -> None:
    one = stage("one", Want("glob", "x/*", optional=True), outs=("o",))
    now = Snapshot({"o": content("1")}, used={("one", "glob:x/*"): {}})
    entry = lock_entry(one, now, now)
    assert texts(now, one, entry) == []
    assert decode_lock(encode_lock({"one": entry}), "dvcx.lock") == {"one": entry}
    more = now._replace(used={("one", "glob:x/*"): {"x/a": used("2")}})
    assert texts(more, one, entry) == ["x/a: added (glob:x/*)"]


def test_the_lock_keeps_it_in_one_line_per_file() -> None:
    data = encode_lock({"train": LOCKED})
    assert decode_lock(data, "dvcx.lock") == {"train": LOCKED}
    assert b'"src/a.py": "file xxh128:' + b"3" * 32 + b" " + b"3" * 64 + b' 1",\n' in data
    assert b'"TOKEN": "' + b"cd" * 32 in data


def test_a_stage_that_is_not_wanted_is_left_alone() -> None:
    first, second = stage("first", deps=("data",), outs=("mid",)), stage("second", deps=("mid",), outs=("model",))
    now = NOW._replace(contents={**NOW.contents, "mid": content("8")}, unwanted={"first": "a == 1"})
    lock = {"second": lock_entry(second, now, now)}
    told = forecast([first, second], lock, now, {"second": ("first",)})
    assert [(verdict.state, [reason.text for reason in verdict.reasons]) for verdict in told] == [
        (SKIPPED, ["when: a == 1 is false"]), ("fresh", []),
    ]  # fmt: skip
    assert judge(first, None, now) == ()


# The graph


def edges(*stages: Stage, pointers: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    graph = build(link(stages), pointers)
    return {name: graph.upstream[name] for name in graph.upstream if graph.upstream[name]}


GEN = stage("gen", outs=("src/gen.py",))
DATA = stage("prep", outs=("data/clean",))


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        ((SOURCES,), ("gen",)),
        ((Want("glob", "**/*.py"),), ("gen",)),
        ((Want("glob", "src/*.txt"),), ()),
        ((Want("glob", "data/clean/*.csv"),), ("prep",)),
        ((Want("glob", "data/clean"),), ("prep",)),
        ((Want("glob", "data/*/x.csv"),), ("prep",)),
        ((Want("glob", "data/raw/*.csv"),), ()),
        ((Want("glob", "**/*.csv"),), ()),
        ((Want("py", "src/gen.py"),), ("gen",)),
        ((Want("stage", "prep"),), ("prep",)),
    ],
)
def test_edges(wants: tuple[Want, ...], expected: tuple[str, ...]) -> None:
    assert edges(GEN, DATA, stage("train", *wants, outs=("model",))).get("train", ()) == expected


def test_stage_dependencies() -> None:
    silent = stage("silent")
    (train,) = link([GEN, silent, stage("train", Want("stage", "gen"), Want("stage", "silent"))])[2:]
    assert train.deps == ("src/gen.py",)
    assert edges(GEN, silent, stage("train", Want("stage", "gen"), Want("stage", "silent"))) == {"train": ("gen", "silent")}
    each = [stage(f"each@{name}", outs=(name,)) for name in "ab"]
    assert link([*each, stage("all", Want("stage", "each"))])[2].deps == ("a", "b")
    with pytest.raises(NotFound) as caught:
        link([GEN._replace(places="4:3"), stage("t", Want("stage", "gne"))._replace(places="7:3||||9:9")])
    assert caught.value.message == "dvcx.yaml:9:9: stage 't': there is no stage 'gne' to depend on"
    assert caught.value.hint == "did you mean 'gen'?"
    with pytest.raises(Conflict, match="circle: a → b → a"):
        edges(stage("a", Want("stage", "b"), outs=("x",)), stage("b", Want("stage", "a"), outs=("y",)))


def test_tracked_data_is_a_source_of_a_wildcard() -> None:
    graph = build([stage("train", Want("glob", "raw/*.csv"))], ("raw", "other"))
    assert graph.sources["train"] == ("raw",)


def test_a_wildcard_passes_over_what_its_own_stage_writes() -> None:
    one = stage("one", Want("glob", "data/**"), outs=("data/out",))
    assert edges(one, GEN) == {}
    assert not_read(one, one.wants[0], ["data/out", "src/gen.py", "data/clean"]) == ("data/out",)
    everywhere = stage("one", Want("glob", "**/*.csv"), outs=("data/out",))
    assert not_read(everywhere, everywhere.wants[0], ["data/out", "data/clean", "a.csv"]) == ("data/clean", "data/out")


@pytest.mark.parametrize(
    ("pattern", "begins"), [("src/**/*.py", "src"), ("*.py", ""), ("a/b/c?.txt", "a/b"), ("a/b.txt", "a"), ("a/[b]/c", "a")]
)
def test_where_a_wildcard_begins(pattern: str, begins: str) -> None:
    assert fixed_part(pattern) == begins


def test_what_no_wildcard_names() -> None:
    assert may_match("src/a.py") and may_match(".hidden")
    assert not any(map(may_match, ("dvcx.yaml", "a/dvcx.lock", "x.dvcx", "a/__pycache__/b.pyc", ".git/HEAD")))
