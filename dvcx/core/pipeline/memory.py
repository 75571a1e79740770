"""What a dvcx.yaml said, as bytes that are read much faster than YAML can be: a memory, never a record."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from dvcx.core.pipeline.execution import Execution
from dvcx.core.pipeline.schema import Artifact, Dataset, Metric, Out, ParamsOf, Pipeline, Plot, Stage, Want

# Bump it whenever the same dvcx.yaml would become other stages: it makes what is remembered unknown.
_FORM = 6


def dump_pipeline(pipeline: Pipeline) -> bytes:
    """A pipeline as bytes for `load_pipeline`."""
    rows = [[_stage_row(stage) for stage in pipeline.stages], *pipeline[1:]]
    body = json.dumps(rows, separators=(",", ":")).encode()
    return b"dvcx-stages %d %08x\n" % (_FORM, zlib.crc32(body)) + body


def load_pipeline(data: bytes, file: str) -> Pipeline | None:
    """What `dump_pipeline` wrote for the dvcx.yaml at `file`; None for anything else, also of another version."""
    head, _, body = data.partition(b"\n")
    if head != b"dvcx-stages %d %08x" % (_FORM, zlib.crc32(body)):
        return None
    try:
        stages, params, metrics, plots, artifacts, datasets, maps = json.loads(body)
        pipeline = Pipeline(
            tuple([_load_stage(row) for row in _typed(stages, list)]),
            _texts(params),
            tuple(Metric(*_texts(row)) for row in metrics),
            tuple(Plot(*_texts(row)) for row in plots),
            tuple(_load_artifact(*row) for row in artifacts),
            tuple(Dataset(*_texts(row)) for row in datasets),
            tuple(_pair(*_texts(row)) for row in maps),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return pipeline if all(stage.file == file for stage in pipeline.stages) else None


def _stage_row(stage: Stage) -> list[Any]:
    """The fields in order, defaults at the end left out: most stages have few."""
    outs = [_trimmed(out) for out in stage.outs]
    fields: list[Any] = [stage.name, stage.file, stage.cmd, stage.wdir, stage.deps, outs, stage.params]
    fields += [stage.desc, stage.frozen, stage.always_changed, stage.places]
    more = [stage.meta, _trimmed(stage.execution), stage.when, stage.wants, stage.optional, stage.used, stage.source]
    return [*fields, *more] if any(more) else fields


_DEFAULTS = {Out: ("", *Out._field_defaults.values()), Execution: tuple(Execution())}


def _trimmed(value: Out | Execution) -> list[Any]:
    fields, defaults = list(value), _DEFAULTS[type(value)]
    while fields and fields[-1] == defaults[len(fields) - 1] and len(fields) > isinstance(value, Out):
        fields.pop()
    return fields


def _load_stage(row: list[Any]) -> Stage:
    name, file, cmd, wdir, deps, outs, params, desc, frozen, always_changed, places, *more = row
    if more:
        meta, execution, when, wants, optional, used, source = more
        more = [
            _typed(meta, str),
            _load_execution(execution),
            _texts(when),
            _load_wants(wants),
            _texts(optional),
            _load_params(used),
            _typed(source, str),
        ]
    return Stage(
        _typed(name, str),
        _typed(file, str),
        _texts(cmd) if type(cmd) is list else _typed(cmd, str),
        _typed(wdir, str),
        _texts(deps),
        tuple([_load_out(out) for out in _typed(outs, list)]),
        _load_params(params),
        _typed(desc, str),
        _typed(frozen, bool),
        _typed(always_changed, bool),
        _typed(places, str),
        *more,
    )


_OUT = (str, bool, bool, bool, bool, str, str, str, str, list, str)


def _load_out(row: list[Any]) -> Out:
    if len(row) > len(_OUT) or not row:
        raise TypeError
    for value, wanted in zip(row, _OUT, strict=False):
        if type(value) is not wanted:
            raise TypeError
    if len(row) > 9:
        row[9] = _texts(row[9])
    return Out(*row)


def _load_params(rows: Any) -> tuple[ParamsOf, ...]:
    return tuple([ParamsOf(_typed(file, str), _texts(keys)) for file, keys in _typed(rows, list)])


def _load_wants(rows: Any) -> tuple[Want, ...]:
    return tuple(
        Want(_typed(kind, str), _typed(value, str), _typed(optional, bool), _typed(exact, bool), _typed(pinned, str))
        for kind, value, optional, exact, pinned in _typed(rows, list)
    )


_EXECUTION = (float, int, float, float, list, list, list, int, float)


def _load_execution(row: Any) -> Execution:
    values = [_typed(value, wanted) for value, wanted in zip(_typed(row, list), _EXECUTION, strict=False)]
    for number in range(4, min(7, len(values))):
        values[number] = _load_tokens(values[number]) if number == 4 else _texts(values[number])
    if len(values) < len(row):
        raise TypeError
    return Execution(*values)


def _load_tokens(rows: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    return tuple((_typed(name, str), _typed(amount, float)) for name, amount in rows)


def _load_artifact(name: Any, path: Any, desc: Any, type_: Any, labels: Any, meta: Any) -> Artifact:
    name, path, desc, type_, meta = _texts([name, path, desc, type_, meta])
    return Artifact(name, path, desc, type_, _texts(labels), meta)


def _pair(first: str, second: str) -> tuple[str, str]:
    return first, second


def _texts(values: Any) -> tuple[str, ...]:
    if type(values) is not list or not all(type(value) is str for value in values):
        raise TypeError
    return tuple(values)


def _typed(value: Any, wanted: type) -> Any:
    if type(value) is not wanted:
        raise TypeError
    return value
