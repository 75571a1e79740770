"""The JSON Schema and the page of keys: as published, complete, and right about what the parser takes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dvcx.cli.publish import schema_text
from dvcx.core.pipeline import publish, schema
from dvcx.core.pipeline.execution import KEYS
from dvcx.io import yaml

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", ["dvcx/dvcx.schema.json", "docs/dvcx.schema.json"])
def test_the_schema_is_as_published(path: str) -> None:
    hint = f"python -m dvcx.cli.publish schema > {path}"
    assert (ROOT / path).read_text(encoding="utf-8") == schema_text(), hint


def test_the_page_is_as_published() -> None:
    hint = "python -m dvcx.cli.publish page > docs/dvcx-yaml-reference.md"
    assert (ROOT / "docs/dvcx-yaml-reference.md").read_text(encoding="utf-8") == publish.reference_page(), hint


def test_every_key_of_the_language_is_there() -> None:
    assert set(publish.TOP) == set(schema.TOP_KEYS)
    assert set(publish.STAGE) == set(schema.STAGE_KEYS) >= set(KEYS)
    assert set(publish.OUT) == set(schema.OUT_KEYS)
    assert set(publish.PLOT) == set(schema.PLOT_KEYS)
    assert set(publish.DEP) == set(schema.DEP_KEYS)


KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def fits(rule: Mapping[str, Any], value: Any) -> bool:
    """As much of JSON Schema as ours uses."""
    rule = {**rule, **publish.json_schema()["$defs"][rule["$ref"].rpartition("/")[2]]} if "$ref" in rule else rule
    if "anyOf" in rule and not any(fits(one, value) for one in rule["anyOf"]):
        return False
    kind = rule.get("type")
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool) and value >= rule.get("minimum", value)
    if kind is not None and not isinstance(value, KINDS[kind]):
        return False
    if ("enum" in rule and value not in rule["enum"]) or ("pattern" in rule and not re.search(rule["pattern"], value)):
        return False
    if isinstance(value, list) and "items" in rule:
        return all(fits(rule["items"], item) for item in value)
    if isinstance(value, dict) and kind == "object":
        more, named = rule.get("additionalProperties", True), rule.get("properties", {})
        if not set(rule.get("required", ())) <= value.keys():
            return False
        return all(
            fits(named[key], item) if key in named else (more if isinstance(more, bool) else fits(more, item))
            for key, item in value.items()
        )
    return True


GOOD = """\
vars: [{a: 1}, params.yaml, "p.json:x,y"]
params: [params.yaml]
metrics: [m.json, {n.json: {meta: {better: lower}}}, {o.json: }]
plots: [a.csv, {b.csv: {x: step, y: [loss, acc], title: B}}, {c.csv: }]
artifacts: {model: {path: model.pkl, type: model, labels: [a], meta: {k: 1}}}
datasets: [{name: d, type: url, url: "https://example.com/d"}]
stages:
  one:
    cmd: [a, b]
    wdir: sub
    desc: d
    deps: [x, "y?", "glob:src/**/*.py", {"py:t.py": {exact: true}}, {z: {optional: true}}, {w: }]
    params: [a.b, {p.json: [k]}, {q.yaml: }]
    outs: [o, {p: {cache: false, persist: true, push: false, remote: r, desc: d, type: t, labels: [l], meta: 1}}]
    metrics: [m, {n: {cache: false}}]
    plots: [r.csv, {s.csv: {x: a, header: false}}]
    resources: {cpu: 2, mem: 4GiB, gpu: 0.5, time: 2h, licence: 1}
    mutex: db
    env: [HOME]
    retries: 2
    timeout: 90
    when: a == 1
    frozen: true
    always_changed: false
    meta: [1]
"""


def test_what_the_parser_takes_fits() -> None:
    document = yaml.load(GOOD.encode(), "dvcx.yaml")
    assert fits(publish.json_schema(), document.value)
    document.value.pop("vars")
    schema.parse_pipeline(document, "dvcx.yaml")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("cmd: [a, b]", "cmdd: a"), ("cmd: [a, b]", "cmd: 1"), ("cmd: [a, b]", "cmd: {a: b}"), ("desc: d", "desc: [d]"),
        ("{exact: true}", "{exakt: true}"), ("persist: true", "persist: maybe"), ("params: [a.b", "params: [1"),
        ("retries: 2", "retries: [2]"), ("frozen: true", "frozen: 1"), ("type: url", "type: ftp"), ("env: [HOME]", "env: {A: 1}"),
        ("artifacts: {model: {path: model.pkl,", "artifacts: {model: {"),
    ],
)  # fmt: skip
def test_what_the_parser_refuses_does_not_fit(good: str, bad: str) -> None:
    assert good in GOOD
    assert not fits(publish.json_schema(), yaml.load(GOOD.replace(good, bad).encode(), "dvcx.yaml").value)
