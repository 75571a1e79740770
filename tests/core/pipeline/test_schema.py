"""dvcx.yaml: what it may say, what is refused with its place, and stages as a memory."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.documents import Document
from dvcx.core.pipeline.schema import (
    Artifact,
    Dataset,
    Execution,
    Metric,
    Out,
    ParamsOf,
    Pipeline,
    Plot,
    Stage,
    Want,
    parse_pipeline,
    parse_stages,
    split_address,
    stage_record,
)
from dvcx.errors import Conflict, DvcxError, UnsafeInput, UsageError
from dvcx.io.yaml import load

FULL = b"""\
stages:
  extract:
    cmd: python extract.py
    wdir: src
    desc: from raw to rows
    deps: [extract.py, ../data/raw/, ./a/../b]
    params:
    - lr
    - train.epochs
    - lr
    - ../config.json:
      - model.depth
    - all.toml:
    outs:
    - rows.csv
    - model: {cache: false, persist: true, push: false, desc: weights}
    metrics:
    - scores.json: {cache: false}
    - more.json
    frozen: true
    always_changed: true
  train:
    cmd:
    - mkdir -p x
    - python train.py
"""


def parse(text: str | bytes, file: str = "dvcx.yaml") -> tuple[Stage, ...]:
    data = text.encode() if isinstance(text, str) else text
    return parse_stages(load(data, file), file)


def test_every_key() -> None:
    extract, train = parse(FULL)
    assert extract == Stage(
        "extract",
        "dvcx.yaml",
        "python extract.py",
        "src",
        ("src/extract.py", "data/raw", "src/b"),
        (
            Out("src/rows.csv"),
            Out("src/model", cache=False, persist=True, push=False, desc="weights"),
            Out("src/scores.json", cache=False, metric=True),
            Out("src/more.json", metric=True),
        ),
        (
            ParamsOf("src/params.yaml", ("lr", "train.epochs")),
            ParamsOf("config.json", ("model.depth",)),
            ParamsOf("src/all.toml"),
        ),
        "from raw to rows",
        True,
        True,
        extract.places,
    )
    assert train == Stage("train", "dvcx.yaml", ("mkdir -p x", "python train.py"), places="22:3|||||")
    assert extract.where() == extract.where("nothing") == "dvcx.yaml:2:3"
    lines = FULL.decode().splitlines()
    written = {"src/rows.csv": "rows.csv", "data/raw": "../data/raw", "src/params.yaml": "lr", "src/all.toml": "all.toml"}
    for path, word in written.items():
        line, column = map(int, extract.where(path).split(":")[1:])
        assert lines[line - 1][column - 1 :].startswith(word)
    assert (extract.address, train.address) == ("extract", "train")


ALL = """\
params: [p.yaml]
metrics: [sub/m.json, n.json: {meta: {better: {loss: lower}}}]
plots:
- curve.csv
- roc: {x: fpr, y: {a.csv: tpr, b.csv: [tpr, fpr]}, title: ROC, template: linear, x_label: x, y_label: y}
artifacts:
  churn: {path: model.pkl, type: model, desc: d, labels: [a], meta: {b: 1}}
datasets:
- {name: d, type: dvc, url: ../other, path: data, rev: v1}
stages:
  a:
    cmd: x
    deps: [glob:src/**/*.py, 'py:train.py?', stage:prep, extra.csv?, py:eval.py: {exact: true}, b.csv: {optional: true}]
    outs:
    - o: {remote: r, type: model, labels: [a, b], meta: {k: [1]}, checkpoint: true}
    plots:
    - p.csv: {x: a, y: b, header: false, cache: false, desc: d}
    - q.csv: [{y: a}, {y: b}]
    - r.csv
    meta: {owner: me}
    resources: {cpu: 2, mem: 4GiB, gpu: 0.5, time: 1h30m, licence: 1}
    mutex: database
    env: [SEED, HOME]
    retries: 2
    timeout: 90
    when: train.enabled
"""


def test_every_other_key() -> None:
    pipeline = parse_pipeline(load(ALL.encode(), "s/dvcx.yaml"), "s/dvcx.yaml")
    (stage,) = pipeline.stages
    assert pipeline == Pipeline(
        (stage,),
        ("s/p.yaml",),
        (Metric("s/sub/m.json"), Metric("s/n.json", '{"better":{"loss":"lower"}}')),
        (
            Plot("curve.csv"),
            Plot(
                "roc",
                '{"x":"fpr","y":{"a.csv":"tpr","b.csv":["tpr","fpr"]},"title":"ROC","template":"linear","x_label":"x","y_label":"y"}',
            ),
        ),
        (Artifact("churn", "s/model.pkl", "d", "model", ("a",), '{"b":1}'),),
        (Dataset("d", "dvc", '{"name":"d","path":"data","rev":"v1","type":"dvc","url":"../other"}', "s/dvcx.yaml"),),
    )
    assert stage == Stage(
        "a",
        "s/dvcx.yaml",
        "x",
        "s",
        ("s/extra.csv", "s/b.csv"),
        (
            Out("s/o", remote="r", type="model", labels=("a", "b"), meta='{"k":[1]}'),
            Out("s/p.csv", cache=False, desc="d", plot='{"header":false,"x":"a","y":"b"}'),
            Out("s/q.csv", plot='[{"y":"a"},{"y":"b"}]'),
            Out("s/r.csv", plot="{}"),
        ),
        places=stage.places,
        meta='{"owner":"me"}',
        execution=Execution(2.0, 4 << 30, 0.5, 5400.0, (("licence", 1.0),), ("database",), ("SEED", "HOME"), 2, 90.0),
        when=("train.enabled",),
        wants=(
            Want("glob", "s/src/**/*.py"),
            Want("py", "s/train.py", optional=True),
            Want("stage", "s/dvcx.yaml:prep"),
            Want("py", "s/eval.py", exact=True),
        ),
        optional=("s/extra.csv", "s/b.csv"),
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("30m", 1800), ("2h", 7200), ("1d 2h", 93600), ("5s", 5)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse(f"stages: {{a: {{cmd: x, timeout: {text}}}}}")[0].execution.timeout == seconds


@pytest.mark.parametrize(("text", "size"), [("7", 7), ("2k", 2000), ("1.5GiB", 3 << 29), ("4 GB", 4 * 10**9), ("1ki", 1024)])
def test_sizes(text: str, size: int) -> None:
    assert parse(f"stages: {{a: {{cmd: x, resources: {{mem: {text}}}}}}}")[0].execution.mem == size


def test_addresses() -> None:
    assert split_address("train@a:b/c") == ("dvcx.yaml", "train@a:b/c")
    assert split_address("s/dvcx.yaml:train@x") == ("s/dvcx.yaml", "train@x")


def test_a_file_below_the_root() -> None:
    (stage,) = parse("stages: {a: {cmd: x, wdir: ../w, deps: [d, ../../e], outs: [o]}}", "p/q/dvcx.yaml")
    assert (stage.wdir, stage.deps, stage.outs[0].path) == ("p/w", ("p/w/d", "e"), "p/w/o")
    assert stage.address == "p/q/dvcx.yaml:a"


@pytest.mark.parametrize("text", ["", "# nothing", "{}", "stages:", "stages: {}"])
def test_no_stages(text: str) -> None:
    assert parse(text) == ()


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("[1]", "dvcx.yaml: it must hold 'stages:', not a list", "stages:"),
        ("stages: [a]", "dvcx.yaml:1:9: stages must be a mapping, not a list", ""),
        ("stagse: {}", "dvcx.yaml:1:1: unknown key 'stagse'", "did you mean 'stages'?"),
        ("stages:\n  a:", "dvcx.yaml:2:5: stages.a must be a mapping, not nothing", ""),
        ("stages:\n  a: {}", "dvcx.yaml:2:3: stages.a has no 'cmd'", "cmd: python train.py"),
        ("stages:\n  a:\n    cmd: x\n    dpes: []", "dvcx.yaml:4:5: stages.a: unknown key 'dpes'", "did you mean 'deps'?"),
        ("stages:\n  a:\n    cmd: x\n    deps: x.csv", "dvcx.yaml:4:11: stages.a.deps must be a list, not text", "deps: [x.csv]"),
        ("stages: {a: {cmd: x, deps: [1]}}", "dvcx.yaml:1:29: stages.a.deps[0] must be a path, not a number", "quotes"),
        ("stages: {a: {cmd: x, mutex: 3}}", "dvcx.yaml:1:29: stages.a.mutex must be text, not a number", "in quotes"),
        ("params: x", "dvcx.yaml:1:9: params must be a list, not text", "params: [x]"),
        ("metrics: [1]", "dvcx.yaml:1:11: metrics[0] must be a path, not a number", ""),
        ("plots: [{a: {xlabel: t}}]", "dvcx.yaml:1:14: plots[0].a: unknown key 'xlabel'", "did you mean 'x_label'?"),
        ("plots: [{a: {x: [b]}}]", "dvcx.yaml:1:17: plots[0].a.x must be text, not a list", ""),
        ("plots: [{a: {y: {f: 1}}}]", "dvcx.yaml:1:21: plots[0].a.y.f must be text, not a number", ""),
        ("artifacts: {m: {}}", "dvcx.yaml:1:13: artifacts.m has no 'path'", "path: models"),
        ("artifacts: {m: {path: a, kind: b}}", "dvcx.yaml:1:26: artifacts.m: unknown key 'kind'", "it understands"),
        ("artifacts: {m: {path: a, labels: b}}", "dvcx.yaml:1:34: artifacts.m.labels must be a list, not text", ""),
        ("datasets: [{name: a, url: b}]", "dvcx.yaml:1:12: datasets[0] has no 'type'", "dvc, dc or url"),
        ("datasets: [{name: a, url: b, type: dcv}]", "dvcx.yaml:1:36: datasets[0].type: unknown type 'dcv'", "'dvc'"),
        ("stages: {a: {cmd: x, plots: [{p: {tilte: a}}]}}", "dvcx.yaml:1:35: stages.a.plots[0].p: unknown key 'tilte'", "title"),
        ("stages: {a: {cmd: x, resources: {cpu: two}}}", "dvcx.yaml:1:39: stages.a.resources.cpu must be a number", "cpu: 1"),
        ("stages: {a: {cmd: x, resources: {mem: 4X}}}", "dvcx.yaml:1:39: stages.a.resources.mem must be a size, not '4X'", ""),
        ("stages: {a: {cmd: x, resources: {1a: 2}}}", "dvcx.yaml:1:34: stages.a.resources.1a: '1a' cannot name", ""),
        ("stages: {a: {cmd: x, timeout: soon}}", "dvcx.yaml:1:31: stages.a.timeout must be a time, not 'soon'", "30m"),
        ("stages: {a: {cmd: x, retries: -1}}", "dvcx.yaml:1:31: stages.a.retries must be a whole number", "retries: 2"),
        ("stages: {a: {cmd: x, env: [A-B]}}", "dvcx.yaml:1:28: stages.a.env[0]: 'A-B' is no name", "env: ["),
        ("stages: {a: {cmd: x, mutex: a b}}", "dvcx.yaml:1:29: stages.a.mutex: 'a b' is no name", ""),
        ("stages: {a: {cmd: x, deps: [{f: {exact: true}}]}}", "dvcx.yaml:1:30: stages.a.deps[0].f: 'exact' is for", "byte"),
        ("stages: {a: {cmd: x, deps: [{f: {optinal: true}}]}}", "dvcx.yaml:1:34: stages.a.deps[0].f: unknown key", "'optional'"),
        ("stages: {a: {cmd: x, deps: [.]}}", "dvcx.yaml:1:29: stages.a.deps[0] is the project itself", ""),
        ("stages: {a: {cmd: 1}}", "dvcx.yaml:1:19: stages.a.cmd must be text, not a number", "quotes"),
        ("stages: {a: {cmd: ' '}}", "dvcx.yaml:1:14: stages.a.cmd is empty", ""),
        ("stages: {a: {cmd: []}}", "dvcx.yaml:1:14: stages.a.cmd is empty", ""),
        ("stages: {a: {cmd: [x, 1]}}", "dvcx.yaml:1:23: stages.a.cmd[1] must be text, not a number", ""),
        ("stages: {a: {cmd: x, frozen: yes}}", "dvcx.yaml:1:30: stages.a.frozen must be true or false, not", "frozen: true"),
        ("stages: {a: {cmd: x, desc: 1}}", "dvcx.yaml:1:28: stages.a.desc must be text, not a number", ""),
        ("stages: {a: {cmd: x, wdir: 1}}", "dvcx.yaml:1:28: stages.a.wdir must be a path, not a number", ""),
        ("stages: {a: {cmd: x, outs: [{o: {cahce: 1}}]}}", "dvcx.yaml:1:34: stages.a.outs[0].o: unknown key 'cahce'", "cache"),
        ("stages: {a: {cmd: x, outs: [{o: {cache: 1}}]}}", "dvcx.yaml:1:41: stages.a.outs[0].o.cache must be true or false", ""),
        ("stages: {a: {cmd: x, outs: [o, {./o: {}}]}}", "dvcx.yaml:1:33: stages.a: output 'o' is listed twice (first", ""),
        ("stages: {a: {cmd: x, outs: [o], metrics: [o]}}", "dvcx.yaml:1:43: stages.a: output 'o' is listed twice (first", ""),
        ("stages: {a: {cmd: x, outs: [.]}}", "dvcx.yaml:1:29: stages.a.outs[0] is the project itself", ""),
        ("stages: {a: {cmd: x, wdir: w, outs: [.]}}", "dvcx.yaml:1:38: stages.a: output 'w' is the directory the stage", ""),
        ("stages: {a: {cmd: x, wdir: w/v, outs: [..]}}", "dvcx.yaml:1:40: stages.a: output 'w' is the directory", ""),
        ("stages: {a: {cmd: x, outs: [dvcx.lock]}}", "dvcx.yaml:1:29: stages.a: output 'dvcx.lock' would overwrite", ""),
        ("stages: {a: {cmd: x, outs: [sub/dvcx.yaml]}}", "dvcx.yaml:1:29: stages.a: output 'sub/dvcx.yaml' would overwrite", ""),
        ("stages: {a: {cmd: x, outs: [x.csv.dvcx]}}", "dvcx.yaml:1:29: stages.a: output 'x.csv.dvcx' would overwrite", ""),
        ("stages: {a: {cmd: x, params: [1]}}", "dvcx.yaml:1:31: stages.a.params[0] must be text, not a number", ""),
        ("stages: {a: {cmd: x, params: [.a]}}", "dvcx.yaml:1:31: stages.a.params[0] is no parameter: '.a'", "train.lr"),
        ("stages: {a: {cmd: x, params: [{f: k}]}}", "dvcx.yaml:1:35: stages.a.params[0].f must be a list, not text", "f: [k]"),
        ("stages: {a/b: {cmd: x}}", "dvcx.yaml:1:10: 'a/b' cannot name a stage", "letters"),
        ("stages: {'-a': {cmd: x}}", "dvcx.yaml:1:10: '-a' cannot name a stage", ""),
        ("stages: {'a:b': {cmd: x}}", "dvcx.yaml:1:10: 'a:b' cannot name a stage", ""),
        ("stages: {'': {cmd: x}}", "dvcx.yaml:1:10: '' cannot name a stage", ""),
    ],
)
def test_refused_with_place_and_hint(text: str, says: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith(says)
    assert hint in caught.value.hint
    assert caught.value.hint


_OUTSIDE = ["/etc/passwd", "../x", "a/../../x", ".git/hooks/post-checkout", ".GIT/x", ".dvcx/config.toml", "a/.dvcx"]
_FIELDS = ["deps: [{}]", "outs: [{}]", "outs: [{{{}: {{cache: false}}}}]", "metrics: [{}]", "wdir: {}", "params: [{{{}: [a]}}]"]


@pytest.mark.parametrize("path", _OUTSIDE)
@pytest.mark.parametrize("field", _FIELDS)
def test_paths_outside_are_unsafe(path: str, field: str) -> None:
    if field.startswith(("deps", "params")) and path in _OUTSIDE[:3]:
        return  # an external input
    with pytest.raises(UnsafeInput) as caught:
        parse(f"stages:\n  a:\n    cmd: x\n    {field.format(path)}\n")
    assert caught.value.message.startswith("dvcx.yaml:4:")
    assert f"stages.a.{field.partition(':')[0]}" in caught.value.message


@pytest.mark.parametrize(
    "fields",
    ["deps: [x], outs: [x]", "deps: [d/x], outs: [d]", "deps: [d], outs: [d/x]", "params: [a], outs: [params.yaml]"],
)
def test_a_stage_may_not_write_what_it_reads(fields: str) -> None:
    with pytest.raises(Conflict) as caught:
        parse(f"stages: {{a: {{cmd: x, {fields}}}}}")
    assert re.match(r"dvcx.yaml:1:(3|4)\d: stages.a: it reads '[\w./]+' \(dvcx.yaml:1:\d+\)", caught.value.message)


def test_options_become_a_record() -> None:
    record = stage_record(
        "python t.py",
        deps=["a"],
        outs=["o"],
        outs_no_cache=["n"],
        outs_persist=["p"],
        params=["lr,epochs", "lr", "c.json:a.b,c", "d.toml:"],
        metrics=["m"],
        metrics_no_cache=["k"],
        plots=["g"],
        plots_no_cache=["h"],
        wdir="w",
        desc="why",
        always_changed=True,
    )
    (stage,) = parse_stages(Document({"stages": {"t": record}}, "dvcx.yaml"), "dvcx.yaml")
    assert stage.outs == (
        Out("w/o"),
        Out("w/n", cache=False),
        Out("w/p", persist=True),
        Out("w/m", metric=True),
        Out("w/k", cache=False, metric=True),
        Out("w/g", plot="{}"),
        Out("w/h", cache=False, plot="{}"),
    )
    assert stage.params == (
        ParamsOf("w/params.yaml", ("lr", "epochs")),
        ParamsOf("w/c.json", ("a.b", "c")),
        ParamsOf("w/d.toml"),
    )
    assert (stage.wdir, stage.desc, stage.always_changed, stage.places) == ("w", "why", True, "")
    assert stage_record(["a", "b"], wdir=".") == {"cmd": ["a", "b"]}


def test_a_value_from_no_file_is_refused_with_its_field() -> None:
    with pytest.raises(UsageError, match=r"^dvcx\.yaml: stages\.t\.cmd is empty"):
        parse_stages(Document({"stages": {"t": {"cmd": ""}}}, "dvcx.yaml"), "dvcx.yaml")


_KEYS = ["cmd", "deps", "outs", "params", "metrics", "wdir", "desc", "frozen", "cache", "x", "é"]
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["a", "../x", "${a}", "s3://b", "."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner),
    max_leaves=10,
)


@given(_values, st.booleans())
def test_any_value_is_read_or_refused(value: object, deep: bool) -> None:
    try:
        parse_stages(Document({"stages": {"s": {"cmd": "x", "outs": [value]}, "t": value}} if deep else value, "f"), "f")
    except DvcxError:
        pass
