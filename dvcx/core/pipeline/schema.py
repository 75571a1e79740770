"""Stages: what dvcx.yaml may say, checked key by key, as values. The only place that knows its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dvcx.core.documents import Document
from dvcx.core.paths import contains, parent, resolve
from dvcx.core.pipeline import execution
from dvcx.core.pipeline.checking import (
    Place,
    canonical_text,
    check_keys,
    expect,
    field,
    flag,
    kind,
    path,
    plain,
    refused,
    text,
    texts,
)
from dvcx.core.pipeline.execution import Execution
from dvcx.core.spelling import did_you_mean
from dvcx.errors import Conflict, UsageError, display

FILE_NAME = "dvcx.yaml"
LOCK_NAME = "dvcx.lock"
PARAMS_FILE = "params.yaml"

TOP_KEYS = ("stages", "include", "vars", "params", "metrics", "plots", "artifacts", "datasets")
STAGE_KEYS = (
    *("cmd", "deps", "params", "outs", "metrics", "plots", "wdir", "desc", "meta", "frozen", "always_changed"),
    *("vars", "foreach", "do", "matrix", "resources", "mutex", "env", "retries", "timeout", "when"),
)
_ANNOTATIONS = ("desc", "type", "labels", "meta")
# DVC accepts `checkpoint` and does nothing with it any more; so do we.
OUT_KEYS = ("cache", "persist", "push", "remote", *_ANNOTATIONS, "checkpoint")
METRIC_KEYS = ("meta",)
PLOT_TEXTS = ("x", "y", "x_label", "y_label", "title", "template")
PLOT_KEYS = (*PLOT_TEXTS, "header")
DEP_KEYS = ("optional", "exact")
DATASET_TYPES = ("dvc", "dc", "url")
DATASET = "ds://"
"""What a dependency on a data set begins with."""

_NAME = re.compile(r"[^\W-][\w-]*").fullmatch
_WANT = re.compile(r"(glob|py|stage):(?!//)(.+)", re.DOTALL).fullmatch


class Out(NamedTuple):
    """One output, by its path in the project. `cache` keeps its content, `persist` leaves it there before a run.

    `remote` names where it is pushed, "" for the default. `plot` is the JSON of the properties of a plot, or of a list
    of them; `{}` for a plot without any, "" for what is no plot. `meta` is JSON, too.
    """

    path: str
    cache: bool = True
    persist: bool = False
    push: bool = True
    metric: bool = False
    desc: str = ""
    plot: str = ""
    remote: str = ""
    type: str = ""
    labels: tuple[str, ...] = ()
    meta: str = ""


class ParamsOf(NamedTuple):
    """Parameters read from `file` (a path in the project): these keys, or the whole file when there are none."""

    file: str
    keys: tuple[str, ...] = ()


class Want(NamedTuple):
    """A dependency that is no plain path. `value` is a wildcard or a script's path in the project, a stage's address, a data
    set's name, or a url or path outside the project (absolute, or as seen from the project's root).

    `pinned` is what an input outside the project is, in words, where the project says so itself; "" for one that is asked.
    """

    kind: str
    value: str
    optional: bool = False
    exact: bool = False
    pinned: str = ""


class Stage(NamedTuple):
    """One step of the dvcx.yaml `file`. Every path is relative to the project.

    `places` are LINE:COLUMN of the stage, then behind a `|` each those of its outs, deps, params, wants and `when`, parted by
    blanks; "" when unknown. They are places in `source`, the file it stands in, "" for `file`.

    `optional` are those of `deps` that may be absent. `when` are conditions as written. `used` are the parameters that
    templates put into it, which are no dependencies: what they change is the stage itself.
    """

    name: str
    file: str
    cmd: str | tuple[str, ...]
    wdir: str = ""
    deps: tuple[str, ...] = ()
    outs: tuple[Out, ...] = ()
    params: tuple[ParamsOf, ...] = ()
    desc: str = ""
    frozen: bool = False
    always_changed: bool = False
    places: str = ""
    meta: str = ""
    execution: Execution = execution.DEFAULT
    when: tuple[str, ...] = ()
    wants: tuple[Want, ...] = ()
    optional: tuple[str, ...] = ()
    used: tuple[ParamsOf, ...] = ()
    source: str = ""

    @property
    def address(self) -> str:
        """What names the stage in the project: `train`, or `sub/dvcx.yaml:train` for one that is not at the root."""
        return address(self.file, self.name)

    @property
    def group(self) -> str:
        """The name that made it one of several by `foreach` or `matrix`: `train` of `train@small`; "" for a single one."""
        name, at, _ = self.name.partition("@")
        return name if at else ""

    def where(self, path: str = "") -> str:
        """`file:line:column` of the output, dependency, parameter or condition `path`, else of the stage; or just the file."""
        file, (own, *groups) = self.source or self.file, self.places.split("|")
        outs, files = [out.path for out in self.outs], [of.file for of in self.params]
        named = (outs, self.deps, files, [want.value for want in self.wants], self.when)
        for paths, places in zip(named, groups, strict=False):
            for known, place in zip(paths, places.split(" "), strict=False):
                if known == path and place:
                    return f"{file}:{place}"
        return f"{file}:{own}" if own else file

    def told(self, path: str = "") -> str:
        """What begins a message about the stage, or about one of its paths: where it stands, and its name. Safe to print."""
        return display(f"{self.where(path)}: stage '{self.address}'")

    def named(self, target: str) -> bool:
        """Whether `target` means this stage: its address, its name, or the address or name of its group."""
        return target in (self.address, self.name) or (
            bool(target) and target in (self.group, address(self.file, self.group)) and bool(self.group)
        )


class Plot(NamedTuple):
    """A plot of the list at the top: an id or a path as written, and the JSON of its properties."""

    name: str
    properties: str = "{}"


class Metric(NamedTuple):
    """A file of metrics of the list at the top, by its path in the project; `meta` is JSON, "" for none."""

    path: str
    meta: str = ""


class Artifact(NamedTuple):
    """A named path of the list at the top; `meta` is JSON."""

    name: str
    path: str
    desc: str = ""
    type: str = ""
    labels: tuple[str, ...] = ()
    meta: str = ""


class Dataset(NamedTuple):
    """A data set of the list at the top of `file`: `type` is one of `DATASET_TYPES`, `properties` the JSON of all it says."""

    name: str
    type: str
    properties: str
    file: str


class Pipeline(NamedTuple):
    """All that one dvcx.yaml says. `params` are paths in the project.

    `maps` are stages that are made for files: their name before the `@`, and the wildcard, as seen from the project.
    """

    stages: tuple[Stage, ...] = ()
    params: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    plots: tuple[Plot, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    maps: tuple[tuple[str, str], ...] = ()


def address(file: str, name: str) -> str:
    """The address of the stage `name` of `file`."""
    return name if file == FILE_NAME else f"{file}:{name}"


def split_address(address: str) -> tuple[str, str]:
    """The dvcx.yaml and the name of the stage at `address`."""
    at = address.find(f"/{FILE_NAME}:")
    return (address[: at + len(FILE_NAME) + 1], address[at + len(FILE_NAME) + 2 :]) if at >= 0 else (FILE_NAME, address)


def parse_stages(document: Document, file: str) -> tuple[Stage, ...]:
    """The stages of the dvcx.yaml at `file`; see `parse_pipeline`."""
    return parse_pipeline(document, file).stages


def parse_pipeline(
    document: Document, file: str, read: Callable[[str], Mapping[str, Any] | None] | None = None, style: Sequence[str] = ()
) -> Pipeline:
    """What the dvcx.yaml at `file` (its path in the project) says, stages in the order they are written.

    `read` gives the values in a file of parameters, None when there is none; `style` is how a mapping becomes options,
    see `templating.Style`. Raises `UsageError` for what the language does not have, `Conflict` for a stage that
    contradicts itself and `UnsafeInput` for a path outside the project; all name file, line, column and field.
    """
    top = document.value
    if top is None:
        return Pipeline()
    if not isinstance(top, dict):
        raise UsageError(f"{document.file}: it must hold 'stages:', not {kind(top)}", "start it with a line: stages:")
    check_keys(document, (), top, TOP_KEYS)
    stages = {} if top.get("stages") is None else top["stages"]
    expect(document, ("stages",), stages, dict)
    for name in stages:
        check_stage_name(name, document.where("stages", name))
    from dvcx.core.pipeline import expansion, templating

    used: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {}
    maps: tuple[tuple[str, str], ...] = ()
    if expansion.needed(document):
        expanded = expansion.expand(document, file, read or _nothing, templating.Style(*style), STAGE_KEYS)
        document, used, maps = expanded.document, expanded.used, expanded.maps
        stages = document.value.get("stages") or {}
    base = parent(file)
    return Pipeline(
        tuple(_stage(document, name, stages[name], file, used.get(name, ())) for name in stages),
        _top_params(document, base),
        _top_metrics(document, base),
        _top_plots(document),
        _artifacts(document, base),
        _datasets(document, file),
        maps,
    )


def check_stage_name(name: str, where: str) -> str:
    """`name` if a stage may have it, else `UsageError`."""
    if not _NAME(name) or len(name) > 200:
        raise UsageError(
            f"{where}: '{display(name[:80])}' cannot name a stage", "use letters, digits, '_' and '-', starting without '-'"
        )
    return name


def stage_record(
    cmd: str | Sequence[str],
    *,
    deps: Iterable[str] = (),
    outs: Iterable[str] = (),
    outs_no_cache: Iterable[str] = (),
    outs_persist: Iterable[str] = (),
    params: Iterable[str] = (),
    metrics: Iterable[str] = (),
    metrics_no_cache: Iterable[str] = (),
    plots: Iterable[str] = (),
    plots_no_cache: Iterable[str] = (),
    wdir: str = "",
    desc: str = "",
    always_changed: bool = False,
) -> dict[str, Any]:
    """The mapping that stands in dvcx.yaml for a stage given by options; not yet checked. Paths are relative to `wdir`.

    Each of `params` is `key,key` (of params.yaml), `file:key,key` or `file:` for the whole file.
    """
    record: dict[str, Any] = {"cmd": cmd if isinstance(cmd, str) else list(cmd)}
    if wdir and wdir != ".":
        record["wdir"] = wdir
    if desc:
        record["desc"] = desc
    fields: dict[str, list[Any]] = {
        "deps": list(deps),
        "params": _params_record(params),
        "outs": [*outs, *_flagged(outs_no_cache, "cache", False), *_flagged(outs_persist, "persist", True)],
        "metrics": [*metrics, *_flagged(metrics_no_cache, "cache", False)],
        "plots": [*plots, *_flagged(plots_no_cache, "cache", False)],
    }
    record.update({key: values for key, values in fields.items() if values})
    if always_changed:
        record["always_changed"] = True
    return record


def _nothing(file: str) -> None:
    return None


def _stage(document: Document, name: str, body: object, file: str, used: Sequence[tuple[str, tuple[str, ...]]]) -> Stage:
    at = ("stages", name)
    expect(document, at, body, dict)
    assert isinstance(body, dict)
    check_keys(document, at, body, STAGE_KEYS)
    base = parent(file)
    wdir = path(document, (*at, "wdir"), body["wdir"], base) if "wdir" in body else base
    needs = _deps(document, (*at, "deps"), body.get("deps"), wdir, file)
    params = _params(document, (*at, "params"), body.get("params"), wdir, needs)
    stage = Stage(
        name,
        file,
        _cmd(document, at, body),
        wdir,
        tuple(needs.paths),
        tuple(out for key in ("outs", "metrics", "plots") for out in _outs(document, (*at, key), body.get(key), wdir)),
        tuple(params),
        text(document, at, body, "desc"),
        flag(document, at, body, "frozen", False),
        flag(document, at, body, "always_changed", False),
        _places(document, at, body, needs, params),
        plain(document, at, body, "meta"),
        execution.parse_execution(document, at, body),
        texts(document, (*at, "when"), body.get("when"), single=True),
        tuple(needs.wants),
        tuple(needs.optional),
        tuple(ParamsOf(*of) for of in used),
    )
    _check_outs(document, at, stage)
    if stage.when:
        _check_when(document, (*at, "when"), body["when"])
    return stage


def _cmd(document: Document, at: Place, body: Mapping[str, Any]) -> str | tuple[str, ...]:
    hint = "say what it runs, for example: cmd: python train.py"
    if "cmd" not in body:
        raise UsageError(f"{document.where(*at)}: {field(at)} has no 'cmd'", hint)
    cmd, at = body["cmd"], (*at, "cmd")
    lines = cmd if isinstance(cmd, list) else [cmd]
    for number, line in enumerate(lines):
        place: Place = (*at, number) if isinstance(cmd, list) else at
        expect(document, place, line, str)
        if "\0" in line:
            raise UsageError(f"{document.where(*place, value=True)}: {field(place)} holds a NUL", "remove it")
    if not lines or not all(line.strip() for line in lines):
        raise UsageError(f"{document.where(*at)}: {field(at)} is empty", hint)
    return cmd if isinstance(cmd, str) else tuple(lines)


class _Needs(NamedTuple):
    """The deps of a stage, each once and in the order they are written, with where that is."""

    paths: dict[str, str]
    wants: dict[Want, str]
    optional: dict[str, None]


def _deps(document: Document, at: Place, items: object, wdir: str, file: str) -> _Needs:
    needs = _Needs({}, {}, {})
    if items is None:
        return needs
    expect(document, at, items, list)
    assert isinstance(items, list)
    for number, item in enumerate(items):
        place = (*at, number)
        if not isinstance(item, dict):
            _dep(document, place, item, {}, needs, wdir, file)
            continue
        for written, flags in item.items():
            inner = (*place, written)
            flags = {} if flags is None else flags
            expect(document, inner, flags, dict)
            check_keys(document, inner, flags, DEP_KEYS)
            _dep(document, inner, written, flags, needs, wdir, file)
    return needs


def _dep(document: Document, at: Place, written: object, flags: Mapping[str, Any], needs: _Needs, wdir: str, file: str) -> None:
    optional, exact = flag(document, at, flags, "optional", False), flag(document, at, flags, "exact", False)
    alone = isinstance(at[-1], int)
    where = document.where(*at, value=alone)
    found = _WANT(written) if isinstance(written, str) else None
    if alone and isinstance(written, str) and len(written) > 1 and written[-1] == "?" and (found is None or found[1] != "glob"):
        written, optional = written[:-1], True
        found = _WANT(written)
    if exact and (found is None or found[1] != "py"):
        raise UsageError(f"{where}: {field(at)}: 'exact' is for 'py:' only", "other files are compared byte by byte anyway")
    if isinstance(written, str) and written.startswith(DATASET):
        name = written.removeprefix(DATASET).partition("/")[0]
        needs.wants.setdefault(Want("dataset", name, optional), where)
        return
    if found is None and (outside := _outside(at, written, wdir, where)):
        needs.wants.setdefault(Want("external", outside, optional), where)
        return
    if found is None:
        found_path = path(document, at, written, wdir, where)
        needs.paths.setdefault(found_path, where)
        if optional:
            needs.optional[found_path] = None
        return
    value = found[2]
    if found[1] != "stage":
        value = path(document, at, value, wdir, where)
    elif ":" not in value:
        value = address(file, value)
    needs.wants.setdefault(Want(found[1], value, optional, exact), where)


def _outside(at: Place, written: object, wdir: str, where: str) -> str:
    """The address of what a stage reads outside the project; "" for what lies inside."""
    if not isinstance(written, str) or not (written[:1] == "/" or ".." in written or "://" in written):
        return ""
    # Imported here: few stages have any.
    from dvcx.core.pipeline.externals import address_of

    return address_of(written, wdir, f"{where}: {field(at)}")


def _outs(document: Document, at: Place, items: object, wdir: str) -> list[Out]:
    if items is None:
        return []
    expect(document, at, items, list)
    assert isinstance(items, list)
    outs = []
    for number, item in enumerate(items):
        place = (*at, number)
        if isinstance(item, dict):
            outs += [_out(document, at, (*place, written), written, flags, wdir) for written, flags in item.items()]
        else:
            plot = "{}" if at[-1] == "plots" else ""
            outs.append(Out(path(document, place, item, wdir), metric=at[-1] == "metrics", plot=plot))
    return outs


def _out(document: Document, at: Place, inner: Place, written: object, flags: object, wdir: str) -> Out:
    """One output that has properties; a plot may have a list of them, the first of which says what it is as an output."""
    found = path(document, inner, written, wdir, document.where(*inner))
    flags = {} if flags is None else flags
    plot = ""
    if at[-1] == "plots":
        sets = flags if isinstance(flags, list) else [flags]
        places: list[Place] = [(*inner, number) for number in range(len(sets))] if isinstance(flags, list) else [inner]
        shown = [_plot_properties(document, place, one) for place, one in zip(places, sets, strict=True)]
        plot = canonical_text(shown if isinstance(flags, list) else shown[0])
        first: Any = (sets[0] or {}) if sets else {}
        inner, flags = places[0] if sets else inner, {key: value for key, value in first.items() if key not in PLOT_KEYS}
    expect(document, inner, flags, dict)
    assert isinstance(flags, dict)
    check_keys(document, inner, flags, OUT_KEYS)
    return Out(
        found,
        flag(document, inner, flags, "cache", True),
        flag(document, inner, flags, "persist", False),
        flag(document, inner, flags, "push", True),
        at[-1] == "metrics",
        text(document, inner, flags, "desc"),
        plot,
        text(document, inner, flags, "remote"),
        text(document, inner, flags, "type"),
        texts(document, (*inner, "labels"), flags.get("labels")),
        plain(document, inner, flags, "meta"),
    )


def _plot_properties(document: Document, at: Place, written: object) -> dict[str, Any]:
    written = {} if written is None else written
    expect(document, at, written, dict)
    assert isinstance(written, dict)
    check_keys(document, at, written, (*PLOT_KEYS, *OUT_KEYS))
    if "header" in written:
        flag(document, at, written, "header", True)
    for key in PLOT_TEXTS:
        text(document, at, written, key)
    return {key: value for key, value in written.items() if key in PLOT_KEYS}


def _top_list(document: Document, key: str) -> list[Any]:
    items = document.value.get(key)
    items = [] if items is None else items
    expect(document, (key,), items, list)
    assert isinstance(items, list)
    return items


def _top_params(document: Document, base: str) -> tuple[str, ...]:
    return tuple(path(document, ("params", number), item, base) for number, item in enumerate(_top_list(document, "params")))


def _top_metrics(document: Document, base: str) -> tuple[Metric, ...]:
    metrics = []
    for number, item in enumerate(_top_list(document, "metrics")):
        at: Place = ("metrics", number)
        if not isinstance(item, dict):
            metrics.append(Metric(path(document, at, item, base)))
            continue
        for written, body in item.items():
            inner = (*at, written)
            body = {} if body is None else body
            expect(document, inner, body, dict)
            check_keys(document, inner, body, METRIC_KEYS)
            found = path(document, inner, written, base, document.where(*inner))
            metrics.append(Metric(found, plain(document, inner, body, "meta")))
    return tuple(metrics)


def _top_plots(document: Document) -> tuple[Plot, ...]:
    plots = []
    for number, item in enumerate(_top_list(document, "plots")):
        if isinstance(item, str):
            plots.append(Plot(item))
            continue
        expect(document, ("plots", number), item, dict)
        for name, written in item.items():
            at = ("plots", number, name)
            written = {} if written is None else written
            expect(document, at, written, dict)
            check_keys(document, at, written, PLOT_TEXTS)
            for key in ("x", "y"):
                _check_axis(document, (*at, key), written.get(key))
            for key in PLOT_TEXTS[2:]:
                text(document, at, written, key)
            plots.append(Plot(name, json.dumps(written, separators=(",", ":"), ensure_ascii=False)))
    return tuple(plots)


def _check_axis(document: Document, at: Place, value: object) -> None:
    """A field's name, or a mapping of files to fields; of y also lists of names."""
    several = at[-1] == "y"
    if value is None or isinstance(value, str):
        return
    if isinstance(value, dict):
        for file, fields in value.items():
            texts(document, (*at, file), fields, single=True) if several else expect(document, (*at, file), fields, str)
    elif several:
        texts(document, at, value)
    else:
        expect(document, at, value, str)


def _artifacts(document: Document, base: str) -> tuple[Artifact, ...]:
    written = document.value.get("artifacts")
    written = {} if written is None else written
    expect(document, ("artifacts",), written, dict)
    found = []
    for name, body in written.items():
        at = ("artifacts", name)
        expect(document, at, body, dict)
        check_keys(document, at, body, ("path", *_ANNOTATIONS))
        if "path" not in body:
            raise refused(document, at, " has no 'path'", "say where it is: path: models/churn.pkl", value=False)
        written = body["path"]
        if isinstance(written, str) and "://" in written:
            # Only a note of where it is: nothing reads or writes it.
            from dvcx.core.pipeline.externals import address_of

            place = (*at, "path")
            where = address_of(written, base, f"{document.where(*place, value=True)}: {field(place)}")
        else:
            where = path(document, (*at, "path"), written, base)
        labels = texts(document, (*at, "labels"), body.get("labels"))
        notes = (text(document, at, body, "desc"), text(document, at, body, "type"), labels, plain(document, at, body, "meta"))
        found.append(Artifact(name, where, *notes))
    return tuple(found)


def _datasets(document: Document, file: str) -> tuple[Dataset, ...]:
    found: dict[str, Dataset] = {}
    for number, body in enumerate(_top_list(document, "datasets")):
        at = ("datasets", number)
        expect(document, at, body, dict)
        for key in ("name", "type", "url"):
            if not text(document, at, body, key):
                raise refused(document, at, f" has no '{key}'", "a data set has a name, a type (dvc, dc or url) and a url")
        if body["type"] not in DATASET_TYPES:
            hint = did_you_mean(body["type"], DATASET_TYPES) or f"it is one of: {', '.join(DATASET_TYPES)}"
            raise refused(document, (*at, "type"), f": unknown type '{display(body['type'][:80])}'", hint)
        if body["name"] in found:
            raise refused(document, (*at, "name"), f": '{display(body['name'][:80])}' is listed twice", "rename one of the two")
        found[body["name"]] = Dataset(body["name"], body["type"], canonical_text(body), file)
    return tuple(found.values())


def _params(document: Document, at: Place, items: object, wdir: str, needs: _Needs) -> dict[ParamsOf, str]:
    """Params by file, in the order met, each with where it is written first. A file listed whole and by keys is read whole.

    A file outside the project is an external input, all of it.
    """
    if items is None:
        return {}
    expect(document, at, items, list)
    assert isinstance(items, list)
    wanted: dict[str, list[str] | None] = {}
    places: dict[str, str] = {}
    for number, item in enumerate(items):
        place = (*at, number)
        if isinstance(item, dict):
            for written, keys in item.items():
                inner = (*place, written)
                if outside := _outside(place, written, wdir, document.where(*inner)):
                    texts(document, inner, keys)
                    needs.wants.setdefault(Want("external", outside), document.where(*inner))
                    continue
                file = path(document, place, written, wdir, document.where(*inner))
                places.setdefault(file, document.where(*inner))
                if keys is None or keys == []:
                    wanted[file] = None
                    continue
                expect(document, inner, keys, list)
                for index, key in enumerate(keys):
                    _add_key(wanted, file, _param_key(document, (*inner, index), key))
        else:
            file = resolve(wdir, PARAMS_FILE, document.where(*place))
            places.setdefault(file, document.where(*place, value=True))
            _add_key(wanted, file, _param_key(document, place, item))
    return {ParamsOf(file, tuple(keys or ())): places[file] for file, keys in wanted.items()}


def _add_key(wanted: dict[str, list[str] | None], file: str, key: str) -> None:
    keys = wanted.setdefault(file, [])
    if keys is not None and key not in keys:
        keys.append(key)


def _param_key(document: Document, at: Place, key: object) -> str:
    expect(document, at, key, str)
    text = str(key)
    if not text or text.startswith(".") or text.endswith("."):
        where = f"{document.where(*at, value=True)}: {field(at)}"
        raise UsageError(f"{where} is no parameter: '{display(text[:200])}'", "for example: train.lr")
    return text


def _places(
    document: Document, at: Place, body: Mapping[str, Any], needs: _Needs, params: Mapping[ParamsOf, str]
) -> str:
    """See `Stage.places`."""
    outs = [place for key in ("outs", "metrics", "plots") for place in _out_places(document, (*at, key), body.get(key))]
    when = [document.where(*at, "when", *number, value=True) for number in _numbers(body.get("when"))]
    groups = ([document.where(*at)], outs, needs.paths.values(), params.values(), needs.wants.values(), when)
    begins = len(document.file) + 1
    places = "|".join(" ".join(place[begins:] for place in group) for group in groups)
    return places if places.strip("| ") else ""


def _numbers(written: object) -> list[tuple[int, ...]]:
    """The indexes of what may be a list or stand alone."""
    return [(number,) for number in range(len(written))] if isinstance(written, list) else [()] if written else []


def _out_places(document: Document, at: Place, items: object) -> Iterator[str]:
    for number, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield from (document.where(*at, number, written) for written in item)
        else:
            yield document.where(*at, number, value=True)


def _check_when(document: Document, at: Place, written: object) -> None:
    from dvcx.core.pipeline.conditions import parse_condition

    for number, condition in enumerate(written if isinstance(written, list) else [written]):
        place = (*at, number) if isinstance(written, list) else at
        parse_condition(condition, f"{document.where(*place, value=True)}: {field(place)}")


def _check_outs(document: Document, at: Place, stage: Stage) -> None:
    """A stage may not write what it reads, what describes it, or where it stands. Refusals name the line of the output."""
    seen: dict[str, str] = {}
    reads = (*stage.deps, *(params.file for params in stage.params))
    places = stage.places.split("|")[1].split(" ") if stage.places else [""] * len(stage.outs)
    for out, place in zip(stage.outs, places, strict=False):
        path, shown = out.path, display(out.path)
        name = path.rpartition("/")[2]
        where = f"{document.file}:{place}: {field(at)}" if place else f"{document.file}: {field(at)}"
        if path in seen:
            first = f" (first in {seen[path]})" if seen[path] else ""
            raise UsageError(f"{where}: output '{shown}' is listed twice{first}", "remove one of the two lines")
        seen[path] = place
        for read in reads:
            if contains(path, read) or contains(read, path):
                raise Conflict(
                    f"{where}: it reads '{display(read)}'{_at(stage, read)} and writes '{shown}', which overlap: "
                    f"{stage.address} → {stage.address}",
                    "write the output to another path",
                )
        if name in (FILE_NAME, LOCK_NAME) or name.endswith(".dvcx") or contains(path, stage.file):
            raise UsageError(f"{where}: output '{shown}' would overwrite dvcx's own files", "write the output to another path")
        if contains(path, stage.wdir):
            raise UsageError(f"{where}: output '{shown}' is the directory the stage runs in", "name a path inside it")


def _at(stage: Stage, path: str) -> str:
    return f" ({display(stage.where(path))})" if stage.places else ""


def _flagged(paths: Iterable[str], flag: str, value: bool) -> list[dict[str, Any]]:
    return [{path: {flag: value}} for path in paths]


def _params_record(options: Iterable[str]) -> list[Any]:
    own: list[str] = []
    files: dict[str, list[str] | None] = {}
    for option in options:
        file, colon, keys = option.rpartition(":")
        names = [key.strip() for key in keys.split(",") if key.strip()]
        if not colon:
            own += [name for name in names if name not in own]
        elif not names:
            files[file] = None
        else:
            files[file] = [*(files.get(file) or ()), *names]
    return [*own, *({file: names} for file, names in files.items())]
