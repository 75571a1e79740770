"""YAML: what is read and refused, within which bounds, and that an edit changes one stage and nothing else."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dvcx.core.pipeline.schema import stage_record
from dvcx.errors import DvcxError, IntegrityError, UnsafeInput, UsageError
from dvcx.io.yaml import load, load_params
from dvcx.io.yaml.editing import remove_stage, set_stage
from dvcx.io.yaml.writing import block, flow

EXAMPLE = b"""\
# What this pipeline does.
stages:
  extract:  # the first one
    cmd: python feature-extractor.py
    deps:
      - data-input.csv   # raw
    outs: [data-output.csv]
    # a remark about extract

  # Trains.
  train:
    cmd: |
      python train.py
      echo done
    params:
      - train.lr

# The end.
"""


def value(text: str) -> Any:
    return load(text.encode(), "x.yaml").value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1), ("-7", -7), ("+1", 1), ("012", 12), ("0o17", 15), ("0x1F", 31), ("1e-3", 0.001), ("1e3", 1000.0), (".5", 0.5),
        ("1.", 1.0), (".inf", math.inf), ("-.INF", -math.inf), ("true", True), ("False", False), ("~", None), ("null", None),
        ("", None), ("yes", "yes"), ("on", "on"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"), ("1:30", "1:30"),
        ("0b1", "0b1"), ("-", [None]), ("'1'", "1"), ('"true"', "true"), ("nul", "nul"), ("e3", "e3"), ("-.", "-."), ("0x", "0x"),
    ],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_nan_and_keys() -> None:
    assert math.isnan(value(".nan"))
    assert value("{1: a, true: b, ~: c, 0x1: d}") == {"1": "a", "true": "b", "~": "c", "0x1": "d"}


def test_aliases_share_and_merge_keys_add() -> None:
    found = value("base: &b {x: 1, y: [2]}\none: *b\ntwo:\n  <<: *b\n  x: 3\nthree:\n  <<: [{x: 5}, *b]\n")
    assert found["one"] is found["base"]
    assert found["two"] == {"x": 3, "y": [2]}
    assert found["three"] == {"x": 5, "y": [2]}
    assert found["two"]["y"] is found["base"]["y"]


def test_every_key_and_value_has_its_place() -> None:
    text = b"stages:\n  train:\n    cmd: x\n    deps:\n      - a\n      - b: 1\n  z: &z\n    q: 1\n  y: *z\n  m:\n    <<: *z\n"
    found = load(text, "f")
    assert found.where("stages", "train") == "f:2:3"
    assert found.where("stages", "train", "cmd", value=True) == "f:3:10"
    assert found.where("stages", "train", "deps", 1, "b") == "f:6:9"
    assert found.where("stages", "train", "deps", 0) == "f:5:9"
    assert found.where("stages", "y", "q") == found.where("stages", "z", "q") == found.where("stages", "m", "q") == "f:8:5"
    assert found.where("stages", "train", "nothing") == "f:2:3"
    assert found.where() == "f"


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"a:\n\tb: 1\n", IntegrityError, "f:2:1: broken YAML: found character"),
        (b"a: b: c\n", IntegrityError, "f:1:5: broken YAML: mapping values"),
        (b"a: [1\n", IntegrityError, "f:2:1: broken YAML"),
        (b"a: 1\n<<<<<<< HEAD\nb: 2\n=======\nb: 3\n>>>>>>> x\n", IntegrityError, "f:2:1: it holds both sides of a merge"),
        (b"a:\n  outs: [m-${item}.txt]\n", IntegrityError, "f:2:13: broken YAML"),
        (b"a: 1\nb: 2\na: 3\n", IntegrityError, "f:3:1: key 'a' twice (first in line 1)"),
        (b"a: &x {}\nb:\n  <<: *x\n  <<: *x\n", IntegrityError, "f:4:3: key '<<' twice"),
        (b"b:\n  <<: 1\n", IntegrityError, "f:2:7: '<<' needs a mapping"),
        (b"a: 1\nb: \xff\n", IntegrityError, "f:2:4: not valid UTF-8"),
        ("a: 1".encode("utf-16"), IntegrityError, "f:1:1: not valid UTF-8"),
        (b"a: 1\nb: \x00\n", IntegrityError, "f:2:4: control character"),
        (b"a: 1 # \xe2\x80\xa8b: 2\n", IntegrityError, "f:1:8: control character"),
        (b"a: 1\rb: 2\r", IntegrityError, "f:1:5: control character"),
        (b"? [a]\n: 1\n", IntegrityError, "f:1:3: a key must be plain text"),
        (b"a: &x 1\n*x : 2\n", IntegrityError, "f:2:1: an alias cannot be a key"),
        (b"a: *x\n", IntegrityError, "f:1:4: no anchor '&x'"),
        (b"a: 1\n---\nb: 1\n", IntegrityError, "f:2:1: a second document"),
        (b"a: " + b"1" * 400, IntegrityError, "f:1:4: a number too long"),
        (b"a: &x [*x]\n", UnsafeInput, "f:1:8: an alias of what it is in"),
        (b"a: !!python/object:os.system x\n", UnsafeInput, "f:1:4: tag"),
        (b"a: !!str x\n", UnsafeInput, "f:1:4: tag"),
        (b"a: !x {b: 1}\n", UnsafeInput, "f:1:4: tag"),
        (b"%TAG ! tag:x,2000:\n---\na: 1\n", UnsafeInput, "f:1:1: tags"),
        (b"[" * 33, UnsafeInput, "f:1:33: nested deeper than 32 levels"),
        (b"a: &a " + b"[" * 20 + b"]" * 20 + b"\nb: " + b"[" * 20 + b"*a" + b"]" * 20, UnsafeInput, "f:2:24: nested deeper"),
        (b" " * (1 << 20) + b"a", UnsafeInput, "f: larger than 1 MiB"),
    ],
)  # fmt: skip
def test_refused_with_its_place(data: bytes, kind: type[DvcxError], says: str) -> None:
    with pytest.raises(kind) as caught:
        load(data, "f")
    assert caught.value.message.startswith(says)
    assert caught.value.hint
    assert caught.value.exit_code in (4, 9)


def test_a_template_in_brackets_is_put_in_quotes() -> None:
    with pytest.raises(IntegrityError) as caught:
        load(b"a:\n  outs: [b.txt, m-${item}.txt]\n", "f")
    assert "in quotes" in caught.value.hint
    with pytest.raises(IntegrityError) as caught:
        load(b'a:\n  outs: ["m-${item}.txt", b: c: d]\n', "f")
    assert "in quotes" not in caught.value.hint


def test_bom_crlf_and_empty_files_are_read() -> None:
    assert load(b"\xef\xbb\xbfa: 1\r\nb: |\r\n  x\r\n  y\r\n", "f").value == {"a": 1, "b": "x\ny\n"}
    assert load(b"", "f").value is None
    assert load(b"# only a remark", "f").value is None


_BOMBS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
from dvcx.errors import DvcxError
from dvcx.io.yaml import load, load_params
from tests.work import SECOND, turns
names = [b"%c" % code for code in range(97, 110)]
lines = [b"a: &a [x,x,x,x,x,x,x,x,x]"]
lines += [b"%s: &%s [%s]" % (b, b, b",".join([b"*" + a] * 9)) for a, b in zip(names, names[1:])]
laughs = b"\\n".join(lines)
bombs = {
    "laughs": laughs,
    "mapping laughs": b"a: &a {x: 1}\\n" + b"".join(
        b"%s: &%s {%s}\\n" % (b, b, b",".join(b"k%d: *%s" % (i, a) for i in range(9))) for a, b in zip(names, names[1:])),
    "merge laughs": b"a: &a {" + b",".join(b"k%d: 1" % i for i in range(900)) + b"}\\n"
        + b"".join(b"m%d: {<<: *a}\\n" % i for i in range(30000)),
    "one long text many times": b"a: &a '" + b"x" * 900000 + b"'\\nb: [" + b"*a," * 30000 + b"]",
    "fifty megabytes": b"a: 1\\n" * 10_000_000,
    "many values": b"".join(b"k%d: 1\\n" % i for i in range(100000)),
    "open lists": b"[" * 500_000, "open mappings": b"{a: " * 200_000, "dashes": b"- " * 500_000, "questions": b"? " * 500_000,
    "steps": b"\\n".join(b" " * i + b"a:" for i in range(1400)), "key": b"a" * 1_000_000 + b": 1",
    "commas": b"{" + b"a:," * 300_000,
    "quotes": b'a: "' + b"\\\\x41" * 250_000, "fine": b"".join(b"- &a%d x\\n" % i for i in range(70000)),
    "x.json": b"[" * 1_000_000, "y.json": b'{"a":' * 200_000, "z.json": b"[" + b"1," * 500_000 + b"1]",
    "v.json": b"[" + b"1" * 1_000_000 + b"]",
    "v.toml": b"a." * 130_000 + b"a=1", "w.toml": b'"\\\\"".' * 50_000 + b"a=1", "x.toml": b"a=" + b"[" * 250_000,
    "y.toml": b"a=" + b"{a=" * 80_000, "z.toml": b"a=" + b"1" * 250_000, "t.toml": b"x" * 10_000_000,
    "fine.toml": b"".join(b"[a%d.b.c.d]\\n" % i for i in range(15000)),
}
load(b"a: 1", "warm")
for name, data in bombs.items():
    def work():
        try:
            (load_params if "." in name else load)(data, name)
        except DvcxError as error:
            assert error.exit_code in (4, 9), (name, error)
        else:
            assert name.startswith("fine"), name

    took = turns(work)
    assert took < SECOND, (name, took)
if sys.platform == "linux":
    # Not ru_maxrss, which begins with what the process that started this one had.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1048576
# The fifty megabytes are the test's own.
assert peak < 200, peak
"""


def test_bombs_are_refused_quickly_in_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _BOMBS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@given(st.binary(max_size=200) | st.text(alphabet="ab:- \n\t[]{}&*!|>'\"#%?,<~0.\r\u2028é", max_size=60).map(str.encode))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for name in ("x.yaml", "x.json", "x.toml", "x"):
        try:
            found = load_params(data, name)
        except DvcxError:
            continue
        json.dumps(found).encode()


_plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=20)
    | st.sampled_from(["a: b", "a #b", "1", "true", " x", "x ", "it's", '"', "\\", "a:", "- a", "1e3"])
    | st.sampled_from(["a\nb", "a\n\nb\n", "\n", "a\n b", " a\nb", "a\nb \n", "é\u2028", "a\tb\nc", "#a\nb", "---\n..."]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8).filter(str.isascii), inner, max_size=3),
    max_leaves=12,
)


_keys = st.sampled_from(["cmd", "deps", "a b", "1", "<<", "x: y"])


@given(st.dictionaries(_keys, _plain_values, max_size=4), st.sampled_from([2, 4]))
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_back(record: dict[str, Any], step: int) -> None:
    assume(record)
    for text in (block(record, 0, step=step, dash=step - 2), flow(record)):
        assert load(text.encode(), "f").value == record


def test_plain_text_is_written_without_quotes() -> None:
    record = {"cmd": "python train.py --lr=0.1 > log.txt", "deps": ["a/b.csv", "1", "x: y", "it's", ""], "multi": "a\n\nb\n"}
    assert block(record, 2) == (
        "  cmd: python train.py --lr=0.1 > log.txt\n"
        "  deps:\n  - a/b.csv\n  - '1'\n  - 'x: y'\n  - it's\n  - ''\n"
        "  multi: |\n    a\n\n    b\n"
    )


# Parameters


def test_parameters_in_three_formats() -> None:
    expected = {"train": {"lr": 0.1, "layers": [1, 2]}, "name": "x"}
    assert load_params(b"train: {lr: 0.1, layers: [1, 2]}\nname: x\n", "params.yaml") == expected
    assert load_params(json.dumps(expected).encode(), "config/p.json") == expected
    assert load_params(b"name = 'x'\n[train]\nlr = 0.1\nlayers = [1, 2]\n", "p.TOML") == expected
    assert load_params(b"a = 1979-05-27\nb = [07:32:00]\n", "p.toml") == {"a": "1979-05-27", "b": ["07:32:00"]}
    for name in ("p.yaml", "p.json", "p.toml", "p"):
        assert load_params(b"", name) == {}


@pytest.mark.parametrize(
    ("name", "data", "code", "says"),
    [
        ("p.yaml", b"[1]", 2, "p.yaml: parameters must be"),
        ("p.json", b"3", 2, "p.json: parameters must be"),
        ("p.py", b"x = 1\ny = = 2", 4, "p.py:2:5: broken Python: invalid syntax"),
        ("p.py", b"x = " + b"(" * 500, 4, "p.py:1:"),
        ("p.py", b"x = " + b"[" * 90 + b"]" * 90, 9, "p.py: nested deeper"),
        ("p.py", b"x = " + b"-" * 9000 + b"1", 9, "p.py: nested deeper"),
        ("p.py", b"#" * (300 << 10), 9, "p.py: larger than 256 KiB"),
        ("p.json", b'{"a":\n x}', 4, "p.json:2:2: broken JSON"),
        ("p.json", b'{"a": 1, "a": 2}', 4, "p.json:1:10: broken JSON: key 'a' twice"),
        ("p.json", b'{"a": "\\ud800"}', 4, "p.json: half of a surrogate pair"),
        ("p.json", b'{"a": ' + b"1" * 5000 + b"}", 4, "p.json: broken JSON: a number too long"),
        ("p.json", b"[" * 40 + b"]" * 40, 9, "p.json: nested deeper"),
        ("p.json", b'{"a": \xff}', 4, "p.json:1:7: not valid UTF-8"),
        ("p.toml", b"a = 1\na = 2\n", 4, "p.toml:2:"),
        ("p.toml", b"a = b\n", 4, "p.toml:1:5: broken TOML"),
        ("p.toml", b"a." * 40 + b"a = 1", 9, "p.toml:1:1: nested deeper"),
    ],
)
def test_parameters_refused(name: str, data: bytes, code: int, says: str) -> None:
    with pytest.raises(DvcxError) as caught:
        load_params(data, name)
    assert caught.value.message.startswith(says)
    assert caught.value.exit_code == code


# Editing


def test_a_stage_is_added_behind_the_others() -> None:
    record = stage_record("python eval.py", deps=["model.pkl"], metrics_no_cache=["metrics.json"])
    edited = set_stage(EXAMPLE, "evaluate", record, "dvcx.yaml")
    added = b"""
  evaluate:
    cmd: python eval.py
    deps:
      - model.pkl
    metrics:
      - metrics.json:
          cache: false
"""
    assert edited == EXAMPLE.replace(b"- train.lr\n", b"- train.lr\n" + added)


def test_a_stage_is_replaced_where_it_stands() -> None:
    edited = set_stage(EXAMPLE, "extract", {"cmd": "x", "outs": ["data-output.csv"]}, "dvcx.yaml")
    lines = EXAMPLE.decode().split("\n")
    new = ["  extract:", "    cmd: x", "    outs:", "      - data-output.csv"]
    assert edited.decode().split("\n") == lines[:2] + new + lines[7:]
    again = set_stage(edited, "extract", {"cmd": "x", "outs": ["data-output.csv"]}, "dvcx.yaml")
    assert again == edited


def test_a_stage_is_removed_with_its_remarks() -> None:
    without = remove_stage(EXAMPLE, "extract", "dvcx.yaml")
    lines = EXAMPLE.decode().split("\n")
    assert without.decode().split("\n") == lines[:2] + lines[9:]
    assert remove_stage(without, "train", "dvcx.yaml") == b"# What this pipeline does.\nstages: {}\n  # Trains.\n\n# The end.\n"
    with pytest.raises(UsageError):
        remove_stage(without, "extract", "dvcx.yaml")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"stages:\n  new:\n    cmd: y\n"),
        (b"# hi", b"# hi\nstages:\n  new:\n    cmd: y\n"),
        (b"{}\n", b"stages:\n  new:\n    cmd: y\n"),
        (b"---\n", b"---\nstages:\n  new:\n    cmd: y\n"),
        (b"stages:\n", b"stages:\n  new:\n    cmd: y\n"),
        (b"stages: ~ # none\n# end\n", b"stages: # none\n  new:\n    cmd: y\n# end\n"),
        (b"stages: {}", b"stages:\n  new:\n    cmd: y\n"),
        (b"stages: {a: {cmd: x}}\n", b"stages: {new: {cmd: y}, a: {cmd: x}}\n"),
        (b"stages: {new: {cmd: x}, b: {cmd: z}}\n", b"stages: {new: {cmd: y}, b: {cmd: z}}\n"),
        (b"{stages: {a: {cmd: x},}}", b"{stages: {new: {cmd: y}, a: {cmd: x},}}"),
        (b"{stages: }", b"{stages: {new: {cmd: y}}}"),
        (b"stages:\n    a:\n        cmd: x", b"stages:\n    a:\n        cmd: x\n    new:\n        cmd: y\n"),
        (b"\xef\xbb\xbfstages:\r\n  a:\r\n    cmd: x", b"\xef\xbb\xbfstages:\r\n  a:\r\n    cmd: x\r\n  new:\r\n    cmd: y\r\n"),
        (b"stages:\n  a:\n    cmd: |+\n      x\n\n", b"stages:\n  a:\n    cmd: |+\n      x\n\n  new:\n    cmd: y\n"),
        (b"vars:\n- a\n# end\n", b"vars:\n- a\n\nstages:\n  new:\n    cmd: y\n# end\n"),
    ],
)
def test_every_layout_takes_a_stage(before: bytes, after: bytes) -> None:
    assert set_stage(before, "new", {"cmd": "y"}, "dvcx.yaml") == after


@pytest.mark.parametrize(
    "data",
    [
        b"stages:\n  new: &n\n    cmd: x\n  b: *n\n",
        b"stages: [1]\n",
        b"[1]\n",
        b"a: 1\r\nb: 2\n",
        b"---\n...\n",
        b"base: &b\n  new: {cmd: x}\nstages: *b\n",
    ],
)
def test_a_layout_that_cannot_be_kept_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        set_stage(data, "new", {"cmd": "y"}, "dvcx.yaml")
    assert caught.value.message.startswith("dvcx.yaml")


_remark = st.sampled_from(["", "\n", "# remark\n", "\n# two\n\n"])
_body = st.sampled_from(
    [
        "    cmd: x\n",
        "    cmd: x  # why\n    deps:\n    - a\n    # tail\n",
        "    cmd: |\n      a\n\n      b\n",
        "    cmd: >-\n      a\n      b\n\n",
        "    deps: [a, b,\n      c]\n    cmd: 'it''s'\n",
        '    cmd: "a\\\n      b"\n    desc:\n',
        "    cmd: é 🚀\n    outs:\n    - x: {cache: false}\n",
    ]
)


@given(
    st.lists(st.tuples(_remark, _body), min_size=1, max_size=4), _remark, st.booleans(), st.integers(0, 4),
    st.dictionaries(st.sampled_from(["cmd", "deps"]), _plain_values, min_size=1), st.booleans(),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_an_edit_keeps_every_other_line(
    stages: list[tuple[str, str]], end: str, crlf: bool, which: int, record: dict[str, Any], remove: bool
) -> None:
    parts = [f"{remark}  s{number}:\n{body}" for number, (remark, body) in enumerate(stages)]
    head = "# é head\nstages:\n"
    text = head + "".join(parts) + end + "x: 1\n"
    data = (text.replace("\n", "\r\n") if crlf else text).encode()
    name = f"s{which}"
    before = load(data, "f").value
    assume(not remove or which < len(stages))
    edited = remove_stage(data, name, "f") if remove else set_stage(data, name, record, "f")
    after = load(edited, "f").value
    assert {**after["stages"], name: None} == {**before["stages"], name: None}
    assert after["stages"].get(name) == (None if remove else record)
    # Whatever stands before and behind the stage is there byte for byte.
    pieces = [head, *parts[:which]] if which < len(stages) else [head, *parts]
    kept = "".join(pieces)
    if which >= len(stages) or (remove and len(stages) == 1):
        # Remarks indented like stages are none of these: the new stage stands right behind the last one.
        kept = kept.rstrip("\n")
    kept = kept.replace("\n", "\r\n") if crlf else kept
    assert edited.startswith(kept.encode())
    behind = "".join(parts[which + 1 :]) + end + "x: 1\n"
    behind = (behind.replace("\n", "\r\n") if crlf else behind).lstrip("\r\n")
    assert edited.endswith(behind.encode())
    if not remove:
        assert set_stage(edited, name, record, "f") == edited


def test_parameters_in_python_are_read_and_never_run() -> None:
    text = b"""
import os
lr = 0.1
name: str = "x"
nothing: int
pair = 1, -2
some = {1, 3, 2}
deep = {"a": {1: True}}
a = b = 1
c, d = 1, 2
raw = b"x"
called = os.system("false")
raise SystemExit(1)
class Train:
    epochs = 5
    class Inner: depth = 2
    def __init__(self):
        self.size = 7
        local = 8
    def other(self):
        self.hidden = 1
def f():
    inside = 1
"""
    assert load_params(text, "p.py") == {
        "lr": 0.1,
        "name": "x",
        "pair": [1, -2],
        "some": [1, 2, 3],
        "deep": {"a": {"1": True}},
        "Train": {"epochs": 5, "Inner": {"depth": 2}, "size": 7},
    }
