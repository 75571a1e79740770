"""The language of dvcx.yaml as a JSON Schema, for editors, and as a page, for people: both made from one table of its keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dvcx.core.pipeline.schema import DATASET_TYPES, PLOT_TEXTS

URL = "https://dvcx.readthedocs.io/en/latest/dvcx.schema.json"
HEADER = f"# yaml-language-server: $schema={URL}\n"
"""The first line of a new dvcx.yaml: editors complete and check the file by it."""

_TEXT: dict[str, Any] = {"type": "string"}
_TEMPLATE: dict[str, Any] = {"type": "string", "pattern": r"\$\{"}
_FLAG: dict[str, Any] = {"anyOf": [{"type": "boolean"}, _TEMPLATE]}
_NUMBER: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, _TEMPLATE]}
_AMOUNT: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, _TEXT]}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_SOME: dict[str, Any] = {"anyOf": [_TEXT, _TEXTS]}
_ANY: dict[str, Any] = {}


def _of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _list(*items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items[0] if len(items) == 1 else {"anyOf": list(items)}}


def _mapping(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def _or_nothing(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "null"}]}


Keys = dict[str, tuple[dict[str, Any], str]]

OUT: Keys = {
    "cache": (_FLAG, "Keep its content in the cache (default true); with false git keeps the file, dvcx only its digest."),
    "persist": (_FLAG, "Leave it in place when the command runs, instead of moving it out of the way."),
    "push": (_FLAG, "Send it with dvcx push (default true)."),
    "remote": (_TEXT, "The remote it belongs on."),
    "desc": (_TEXT, "For people."),
    "type": (_TEXT, "For people: model, dataset, …"),
    "labels": (_TEXTS, "A list of words."),
    "meta": (_ANY, "Anything, for other programs."),
    "checkpoint": (_FLAG, "Accepted, as DVC does, and of no meaning."),
}
PLOT: Keys = {
    **{key: (_TEXT, f"The plot's {key.replace('_', ' ')}.") for key in PLOT_TEXTS},
    "header": (_FLAG, "Whether the first row of a table names its columns."),
}
DEP: Keys = {
    "optional": (_FLAG, "It may be absent, or match nothing. That it appears is a reason to run."),
    "exact": (_FLAG, "Of py: compare every byte, comments and formatting as well."),
}
RESOURCES: Keys = {
    "cpu": (_NUMBER, "Cores (default 1)."),
    "mem": (_AMOUNT, "Memory: 4GiB, 500MB, or bytes."),
    "gpu": (_NUMBER, "GPUs."),
    "time": (_AMOUNT, "How long it takes: 90 (seconds), 30m, 2h. A hint."),
}
STAGE: Keys = {
    "cmd": (_SOME, "What runs, through /bin/sh; a list one by one, until one fails."),
    "deps": (_list(_TEXT, _mapping(_or_nothing(_of("dep")))),
             "What it reads: paths, glob:src/**/*.py, py:train.py, stage:prep; path? may be absent."),
    "params": (_list(_TEXT, _mapping(_or_nothing(_TEXTS))),
               "Parameters it reads: key.inside of params.yaml, FILE: [key, …], or FILE: for all of it."),
    "outs": (_list(_TEXT, _mapping(_or_nothing(_of("out")))), "Files and directories it writes."),
    "metrics": (_list(_TEXT, _mapping(_or_nothing(_of("out")))), "The same, marked as metrics."),
    "plots": (_list(_TEXT, _mapping(_or_nothing(_of("plot_out")))), "The same, to be drawn as plots."),
    "wdir": (_TEXT, "Where cmd runs and what the paths are relative to; the file's directory when left out."),
    "desc": (_TEXT, "For people."),
    "meta": (_ANY, "Anything, for other programs."),
    "frozen": (_FLAG, "Not stale, whatever changed, as long as its outputs are there."),
    "always_changed": (_FLAG, "Always stale."),
    "vars": (_of("vars"), "Values for the templates of this stage."),
    "foreach": (_ANY, "A list, a mapping, a template that is one, or glob:data/raw/*.csv: one stage per item, made from do."),
    "do": (_of("stage"), "What foreach repeats; ${item} and ${key} stand for the item."),
    "matrix": (_mapping(_ANY), "Lists by name: one stage per combination."),
    "resources": (_of("resources"), "What it needs while it runs; other names than those below are amounts of anything else."),
    "mutex": (_SOME, "Stages with the same name here do not run at the same time."),
    "env": (_SOME, "Environment variables whose values count as inputs."),
    "retries": (_NUMBER, "How often a command that failed is tried again."),
    "timeout": (_AMOUNT, "How long it may run: 90 (seconds), 30m, 1h30m."),
    "when": (_SOME, "Conditions on parameters, for example: model.kind == 'forest'. The stage is skipped while one is false."),
}  # fmt: skip
METRIC: Keys = {"meta": (_ANY, "Anything; better: {loss: lower} says which way is up.")}
ARTIFACT: Keys = {
    "path": (_TEXT, "Where it is."),
    **{key: OUT[key] for key in ("desc", "type", "labels", "meta")},
}
DATASET: Keys = {
    "name": (_TEXT, "Its name."),
    "type": ({"enum": list(DATASET_TYPES)}, "What kind it is."),
    "url": (_TEXT, "Where it comes from."),
    "path": (_TEXT, "Of dvc: what in the other repository it is."),
    "rev": (_TEXT, "Of dvc: which revision of it; a commit stays what it is."),
}
TOP: Keys = {
    "stages": (_or_nothing(_mapping(_of("stage"))), "The stages by name."),
    "include": (_SOME, "Other YAML files whose stages are part of this one; paths in them are relative to them."),
    "vars": (_of("vars"), "Values for templates: mappings, files, or FILE:key,key."),
    "params": (_TEXTS, "Files of parameters that dvcx params shows."),
    "metrics": (_list(_TEXT, _mapping(_or_nothing(_of("metric")))), "Files of metrics that dvcx metrics shows."),
    "plots": (_list(_TEXT, _mapping(_or_nothing(_of("plot")))), "Plots that dvcx plots shows."),
    "artifacts": (_mapping(_of("artifact")), "Named paths, for people and registries."),
    "datasets": (_list(_of("dataset")), "Data sets, as DVC has them."),
}
# (name of the definition, title on the page, keys, what may be there besides, what must be there)
_PARTS: tuple[tuple[str, str, Keys, bool, tuple[str, ...]], ...] = (
    ("stage", "A stage", STAGE, False, ()),
    ("dep", "Properties of a dependency", DEP, False, ()),
    ("out", "Properties of an output or a metric", OUT, False, ()),
    ("plot_out", "Properties of a plot that a stage writes", {**PLOT, **OUT}, False, ()),
    ("resources", "Resources", RESOURCES, True, ()),
    ("plot", "Properties of a plot of the list at the top", PLOT, False, ()),
    ("metric", "Properties of a metric of the list at the top", METRIC, False, ()),
    ("artifact", "An artifact", ARTIFACT, False, ("path",)),
    ("dataset", "A data set", DATASET, True, ("name", "type", "url")),
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of dvcx.yaml (https://json-schema.org/draft/2020-12)."""
    parts = {name: _object(keys, more=more, needed=needed) for name, _, keys, more, needed in _PARTS}
    # The properties of one plot, or of several that are drawn from the same file.
    parts["plot_out"] = {"anyOf": [parts["plot_out"], {"type": "array", "items": parts["plot_out"]}]}
    parts["plot"]["properties"].update({"x": _ANY, "y": _ANY})
    parts["vars"] = _list(_TEXT, {"type": "object"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": URL,
        "title": "dvcx.yaml",
        "description": "Stages of a dvcx pipeline.",
        **_object(TOP, more=False, needed=()),
        "$defs": dict(sorted(parts.items())),
    }


def reference_page() -> str:
    """The page of all keys, as Markdown."""
    lines = [
        "# Every key of dvcx.yaml",
        "",
        "This page is made by `python -m dvcx.cli.publish page`; do not edit it. [dvcx.yaml](dvcx-yaml.md) explains how the keys",
        "work together; [dvcx.schema.json](dvcx.schema.json) is the same for editors and other programs, and comes with the",
        "package. A new dvcx.yaml begins with a line that names it; to an older one add:",
        "",
        "```yaml",
        HEADER.rstrip(),
        "```",
        "",
        *_table("The file", TOP),
    ]  # fmt: skip
    for _, title, keys, _, needed in _PARTS:
        lines += _table(title, keys, needed)
    return "\n".join(lines).rstrip() + "\n"


def _object(keys: Keys, *, more: bool, needed: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {key: {**value, "description": text} for key, (value, text) in keys.items()},
        "additionalProperties": more,
    }
    if needed:
        found["required"] = list(needed)
    return found


def _table(title: str, keys: Keys, needed: tuple[str, ...] = ()) -> Iterator[str]:
    yield from (f"## {title}", "", "| key | value | meaning |", "|---|---|---|")
    for key, (value, text) in keys.items():
        must = " It must be there." if key in needed else ""
        yield f"| `{key}` | {_words(value)} | {text.replace('|', chr(92) + '|')}{must} |"
    yield ""


def _words(value: Mapping[str, Any]) -> str:
    """What a key may hold, in words."""
    if "anyOf" in value:
        words = [_words(one) for one in value["anyOf"] if one is not _TEMPLATE and one != {"type": "null"}]
        return " or ".join(dict.fromkeys(words))
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        titles = {part: title for part, title, *_ in _PARTS}
        return f"[{titles[name].lower()}](#{titles[name].lower().replace(' ', '-')})" if name in titles else name
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"list of ({_words(value['items'])})" if "anyOf" in value["items"] else f"list of {_words(value['items'])}"
    if kind == "object":
        return f"mapping to {_words(value['additionalProperties'])}" if "additionalProperties" in value else "mapping"
    return {"string": "text", "number": "number", "boolean": "true or false"}.get(str(kind), "anything")
