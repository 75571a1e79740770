"""Projects with params, metrics and plots: their history, and what is asked of it of both dvcx and DVC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

Step = dict[str, str | None] | str


class Case(NamedTuple):
    """A project and the questions asked of it: command lines without `--json`."""

    steps: Sequence[Step]
    questions: Sequence[str]


METRICS = """\
stages:
  train:
    cmd: "true"
    metrics: [{a.json: {cache: false}}, {sub/b.yaml: {cache: false}}]
metrics: [c.toml]
"""
LOG = "epoch,loss,acc\n1,0.9,0.1\n2,0.5,0.25\n3,0.25,0.5\n"
LOWER = "epoch,loss,acc\n1,0.8,0.2\n2,0.4,0.35\n3,0.125,0.75\n"
PNG = "base64:iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def _json(value: object) -> str:
    return json.dumps(value)


CASES: dict[str, Case] = {
    "metrics-formats": Case(
        [
            {"dvcx.yaml": METRICS, "a.json": '{"acc": 0.5, "n": 3, "train": {"loss": 1e-9, "deep": {"x": -1}}}'},
            {"sub/b.yaml": "f1: 0.25\nname: base\nok: true\n", "c.toml": "[test]\nauc = 0.75\nrank = 2\n"},
            "commit",
            {"a.json": '{"acc": 0.75, "n": 3, "train": {"loss": 2e-9, "deep": {"y": 2}}}', "sub/b.yaml": "f1: 0.5\nok: false\n"},
            "commit",
            {"c.toml": "[test]\nauc = 0.875\nrank = 2\n"},
        ],
        ["metrics show", "metrics diff", "metrics diff HEAD~1", "metrics diff HEAD~1 HEAD", "metrics diff HEAD~1 HEAD --all"],
    ),
    "metrics-odd-values": Case(
        [
            {"dvcx.yaml": "metrics: [a.json, b.yaml, zero.json]\n"},
            {"a.json": '{"i": Infinity, "m": -Infinity, "s": "text", "big": 9007199254740993, "small": 1e-300, "z": 0}'},
            {"b.yaml": "i: .inf\ns: '0.5'\nb: true\n", "zero.json": "0.5"},
            "commit",
            {"a.json": '{"i": 1, "m": 2, "s": 3, "big": 9007199254740995, "small": 2e-300, "z": 0.0}', "zero.json": "0.25"},
        ],
        ["metrics show", "metrics diff"],
    ),
    "metrics-branches-and-tags": Case(
        [
            {"dvcx.yaml": "metrics: [m.json]\n", "m.json": '{"a": 1}'},
            "commit",
            "tag v1",
            {"m.json": '{"a": 2}'},
            "commit",
            "branch other",
            {"m.json": '{"a": 3}'},
            "commit",
            "tag v2",
            "checkout -q other",
            {"m.json": '{"a": 4, "b": {"c": 5}}'},
            "commit",
            "checkout -q main",
            {"m.json": '{"a": 5}'},
        ],
        [
            "metrics show --all-branches",
            "metrics show --all-tags",
            "metrics show --all-branches --all-tags",
            "metrics diff v1 other",
            "metrics diff other v1",
            "metrics diff v2",
            "metrics show --all-commits",
        ],
    ),
    "metrics-of-subdirectories": Case(
        [
            {"dvcx.yaml": "metrics: [m.json]\n", "m.json": '{"a": 1}', "one/dvcx.yaml": "metrics: [m.json, ../up.json]\n"},
            {"one/m.json": '{"a": 2}', "up.json": '{"a": 3}'},
            {"one/two/dvcx.yaml": 'stages:\n  s:\n    cmd: "true"\n    metrics: [{m.yaml: {cache: false}}]\n'},
            {"one/two/m.yaml": "a: 4\n"},
            "commit",
            {"one/m.json": '{"a": 12}', "one/two/m.yaml": "a: 14\n", "up.json": '{"a": 13}'},
        ],
        ["metrics show", "metrics diff", "metrics show one/m.json", "metrics diff HEAD workspace"],
    ),
    "metrics-gone-and-renamed": Case(
        [
            {"dvcx.yaml": "metrics: [m.json, old.json]\n", "m.json": '{"a": 1}', "old.json": '{"b": 2}'},
            "commit",
            {"dvcx.yaml": "metrics: [m.json, new.json]\n", "old.json": None, "new.json": '{"b": 2}'},
            "commit",
            {"m.json": None},
        ],
        ["metrics diff HEAD~1 HEAD", "metrics diff HEAD~1", "metrics diff", "metrics show"],
    ),
    "metrics-cached": Case(
        [
            {
                "dvcx.yaml": "stages:\n  s:\n    cmd: cp in.json out.json\n    deps: [in.json]\n    metrics: [out.json]\n",
                "in.json": '{"a": 1}',
            },
            "repro",
            "commit",
            {"in.json": '{"a": 2, "b": 1}'},
            "repro",
            "commit",
            {"in.json": '{"a": 3}'},
            "repro",
        ],
        ["metrics show", "metrics diff", "metrics diff HEAD~1", "metrics diff HEAD~1 HEAD", "metrics show --all-commits"],
    ),
    "metrics-directory": Case(
        [
            {"dvcx.yaml": "metrics: [scores]\n", "scores/a.json": '{"a": 1}', "scores/deep/b.yaml": "b: 2\n"},
            "commit",
            {"scores/a.json": '{"a": 3}'},
        ],
        ["metrics show", "metrics diff"],
    ),
    "params-formats": Case(
        [
            {"dvcx.yaml": "params: [p.json, conf/p.toml, p.py]\n", "params.yaml": "lr: 0.1\nnet: {layers: [1, 2], drop: null}\n"},
            {"p.json": '{"a": {"b": true}, "s": "x"}', "conf/p.toml": "[t]\nx = 1\n"},
            {"p.py": "A = 1\nclass Net:\n    depth = 3\n    name = 'x'\n"},
            "commit",
            {"params.yaml": "lr: 0.2\nnet: {layers: [1, 3], drop: 0.5}\n", "p.json": '{"a": {"b": false}, "s": "x"}'},
            {"conf/p.toml": "[t]\nx = 2\ny = 1\n", "p.py": "A = 2\nclass Net:\n    depth = 4\n    name = 'x'\n"},
        ],
        ["params diff", "params diff --all", "params diff HEAD", "params show"],
    ),
    "params-of-stages": Case(
        [
            {
                "dvcx.yaml": (
                    'stages:\n  s:\n    cmd: "true"\n    params: [lr, other.yaml: [a.b], whole.json: []]\n'
                    '  t:\n    cmd: "true"\n    wdir: sub\n    params: [size, more.toml: [x]]\n'
                ),
                "params.yaml": "lr: 1\nunused: 2\n",
                "other.yaml": "a: {b: 1, c: 2}\nd: 3\n",
                "whole.json": '{"w": 1, "v": {"u": 2}}',
                "sub/params.yaml": "size: 1\nunused: 2\n",
                "sub/more.toml": "x = 1\ny = 2\n",
            },
            "commit",
            {"params.yaml": "lr: 2\nunused: 3\n", "other.yaml": "a: {b: 2, c: 3}\nd: 4\n"},
            {"whole.json": '{"w": 2, "v": {"u": 3}}'},
            {"sub/params.yaml": "size: 2\nunused: 3\n", "sub/more.toml": "x = 2\ny = 3\n"},
        ],
        ["params show", "params diff", "params diff --deps", "params show --deps", "params show other.yaml"],
    ),
    "params-of-templates": Case(
        [
            {
                "dvcx.yaml": (
                    "vars: [conf.yaml]\nstages:\n  s:\n    cmd: echo ${model.lr} ${size}\n"
                    "  t:\n    vars: [more.yaml]\n    cmd: echo ${deep.x}\n"
                ),
                "params.yaml": "size: 1\nrest: 2\n",
                "conf.yaml": "model: {lr: 1, other: 2}\n",
                "more.yaml": "deep: {x: 1, y: 2}\n",
            },
            "commit",
            {"conf.yaml": "model: {lr: 2, other: 3}\n", "more.yaml": "deep: {x: 2, y: 3}\n", "params.yaml": "size: 2\nrest: 3\n"},
        ],
        ["params show", "params diff"],
    ),
    "params-gone": Case(
        [
            {"params.yaml": "a: 1\nb: {c: 2}\n"},
            "commit",
            {"params.yaml": None},
            "commit",
            {"params.yaml": "a: 1\nd: [1]\n"},
        ],
        ["params diff HEAD~1 HEAD", "params diff", "params diff HEAD~1", "params show --all-commits"],
    ),
    "plots-of-stages": Case(
        [
            {
                "dvcx.yaml": (
                    'stages:\n  s:\n    cmd: "true"\n    plots:\n    - log.csv: {cache: false, x: epoch, y: loss}\n'
                    "    - log.tsv: {cache: false}\n    - bare.csv: {cache: false, header: false}\n"
                    "    - curve.json: {cache: false, y: v, x_label: X, title: T}\n"
                    "    - c.yaml: {cache: false, template: simple}\n"
                ),
                "log.csv": LOG,
                "log.tsv": LOG.replace(",", "\t"),
                "bare.csv": "1,2\n3,4\n",
                "curve.json": '{"rows": [{"v": 1, "w": 2}, {"v": 3, "w": 4}], "n": 1}',
                "c.yaml": "- {a: 1, b: 2}\n- {a: 3, b: 4}\n",
            },
            "commit",
            {"log.csv": LOWER, "curve.json": '{"rows": [{"v": 5, "w": 6}], "n": 1}'},
            "commit",
        ],
        ["plots show", "plots diff HEAD~1", "plots diff HEAD~1 HEAD", "plots show log.csv"],
    ),
    "plots-at-the-top": Case(
        [
            {
                "dvcx.yaml": (
                    "plots:\n- log.csv\n- low.csv: {x: epoch, y: [loss, acc]}\n- no.csv:\n"
                    "- both: {x: epoch, y: {log.csv: loss, low.csv: [loss, acc]}, title: B, y_label: L}\n"
                    "- per: {x: {log.csv: epoch, low.csv: acc}, y: {log.csv: loss, low.csv: loss}}\n"
                    "- cross: {x: {log.csv: acc}, y: {low.csv: loss}, template: scatter}\n"
                    "- shared: {x: {log.csv: epoch}, y: {low.csv: [loss, acc]}}\n"
                ),
                "log.csv": LOG,
                "low.csv": LOWER,
                "no.csv": "a\n1\n",
            },
            "commit",
            {"log.csv": LOWER},
        ],
        ["plots show", "plots diff", "plots show both"],
    ),
    "plots-of-subdirectories": Case(
        [
            {
                "sub/dvcx.yaml": "plots:\n- log.csv\n- id: {x: epoch, y: {log.csv: loss, ../top.csv: loss}}\n",
                "sub/log.csv": LOG,
                "top.csv": LOWER,
                "dvcx.yaml": "plots:\n- sub/more.json: {x: a, y: b}\n",
                "sub/more.json": '[{"a": 1, "b": 2}, {"a": 2, "b": 3}]',
            },
            "commit",
        ],
        ["plots show"],
    ),
    "plots-directories": Case(
        [
            {
                "dvcx.yaml": "plots:\n- logs: {x: epoch, y: loss}\n- logs/deep: {x: epoch, y: acc}\n- images\n",
                "logs/a.csv": LOG,
                "logs/b.csv": LOWER,
                "logs/deep/c.csv": LOG,
                "images/a.png": PNG,
                "images/deep/b.png": PNG,
            },
            "commit",
            {"logs/a.csv": LOWER, "images/new.png": PNG},
        ],
        ["plots show", "plots diff HEAD"],
    ),
    "plots-images": Case(
        [
            {"dvcx.yaml": 'stages:\n  s:\n    cmd: "true"\n    plots: [{a.png: {cache: false}}, {b.svg: {cache: false}}]\n'},
            {"a.png": PNG, "b.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>"},
            "commit",
            {"a.png": None},
        ],
        ["plots show", "plots diff HEAD"],
    ),
    "plots-nested-json": Case(
        [
            {
                "dvcx.yaml": "plots:\n- a.json\n- b.json: {x: e, y: v}\n- c.json: {y: t}\n- d.json: {y: b}\n",
                "a.json": '{"auc": 1, "deep": {"x": {"rows": [{"p": 1, "q": 2}, {"p": 3, "q": 4}]}}}',
                "b.json": '{"train": [{"e": 1, "t": 2}, {"e": 2, "t": 3}], "val": [{"v": 5}, {"v": 6}]}',
                "c.json": '{"train": [{"e": 1, "t": 2}], "val": [{"v": 5}, {"v": 6}]}',
                "d.json": '{"labels": ["x", "y"], "rows": [{"a": 1, "b": 0.5}, {"a": 2, "b": 0.25}]}',
            },
            "commit",
        ],
        ["plots show"],
    ),
    "plots-gone-and-moved": Case(
        [
            {"dvcx.yaml": "plots:\n- old.csv: {x: epoch, y: loss}\n- same.csv: {x: epoch, y: loss}\n"},
            {"old.csv": LOG, "same.csv": LOG},
            "commit",
            {"dvcx.yaml": "plots:\n- new.csv: {x: epoch, y: loss}\n- same.csv: {x: epoch, y: acc}\n"},
            {"old.csv": None, "new.csv": LOG},
            "commit",
        ],
        ["plots diff HEAD~1 HEAD", "plots diff HEAD~1", "plots show"],
    ),
    "plots-templates": Case(
        [
            {
                "dvcx.yaml": (
                    "plots:\n- p.csv: {x: actual, y: predicted, template: confusion}\n"
                    "- i.json: {x: importance, y: name, template: bar_horizontal_sorted}\n"
                ),
                "p.csv": "actual,predicted\na,a\na,b\nb,b\nb,b\n",
                "i.json": _json([{"name": "x", "importance": 0.5}, {"name": "y", "importance": 0.25}]),
            },
            "commit",
        ],
        ["plots show"],
    ),
    "plots-cached": Case(
        [
            {
                "dvcx.yaml": (
                    "stages:\n  s:\n    cmd: cp in.csv out.csv\n    deps: [in.csv]\n"
                    "    plots: [out.csv: {x: epoch, y: loss}]\n"
                ),
                "in.csv": LOG,
            },
            "repro",
            "commit",
            {"in.csv": LOWER},
            "repro",
        ],
        ["plots diff HEAD", "plots show"],
    ),
}
