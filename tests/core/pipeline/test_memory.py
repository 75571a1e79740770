"""The memory of a dvcx.yaml: it gives back what it was given, and nothing for damaged or strange bytes."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.pipeline.memory import dump_pipeline, load_pipeline
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
)
from dvcx.io.yaml import load
from tests.core.pipeline.test_schema import ALL

PIPELINE = parse_pipeline(load(ALL.encode(), "dvcx.yaml"), "dvcx.yaml")

_texts = st.text(max_size=10)
_lists = st.lists(_texts, max_size=2).map(tuple)
_floats = st.floats(0, 1e9)
_tokens = st.lists(st.tuples(_texts, _floats), max_size=2).map(tuple)
_params = st.lists(st.builds(ParamsOf, _texts, _lists), max_size=2).map(tuple)
_stages = st.builds(
    Stage,
    _texts,
    st.just("dvcx.yaml"),
    _texts | st.lists(_texts).map(tuple),
    _texts,
    st.lists(_texts).map(tuple),
    st.lists(st.builds(Out, _texts, *[st.booleans()] * 4, *[_texts] * 4, _lists, _texts), max_size=2).map(tuple),
    _params,
    _texts,
    st.booleans(),
    st.booleans(),
    _texts,
    _texts,
    st.just(Execution())
    | st.builds(Execution, _floats, st.integers(0), _floats, _floats, _tokens, _lists, _lists, st.integers(0), _floats),
    _lists,
    st.lists(st.builds(Want, _texts, _texts, st.booleans(), st.booleans()), max_size=2).map(tuple),
    _lists,
    _params,
    _texts,
)
_pipelines = st.builds(
    Pipeline,
    st.lists(_stages, max_size=3).map(tuple),
    _lists,
    st.lists(st.builds(Metric, _texts, _texts), max_size=2).map(tuple),
    st.lists(st.builds(Plot, _texts, _texts), max_size=2).map(tuple),
    st.lists(st.builds(Artifact, _texts, _texts, _texts, _texts, _lists, _texts), max_size=2).map(tuple),
    st.lists(st.builds(Dataset, _texts, _texts, _texts), max_size=2).map(tuple),
)


@given(_pipelines)
def test_a_pipeline_is_remembered(pipeline: Pipeline) -> None:
    data = dump_pipeline(pipeline)
    assert load_pipeline(data, "dvcx.yaml") == pipeline
    if pipeline.stages:
        assert load_pipeline(data, "other/dvcx.yaml") is None


@given(st.binary(max_size=50), st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_memory_is_none(garbage: bytes, at: int, byte: int) -> None:
    assert load_pipeline(garbage, "dvcx.yaml") is None
    data = bytearray(dump_pipeline(PIPELINE))
    at %= len(data)
    changed = data[at] != byte
    data[at] = byte
    found = load_pipeline(bytes(data), "dvcx.yaml")
    assert found is None if changed else found == PIPELINE
    assert load_pipeline(bytes(data[:at]), "dvcx.yaml") is None


_SHAPES = [
    *(b"1", b"[1]", b"[[]]", b"[[[1,2,3,4,5,6,7,8,9,10,11]],[],[],[],[],[]]", b"[" * 999, b"nul", b"[[],[],[],[[1]],[],[]]"),
    b'[[["a","dvcx.yaml",1,"",[],[],[],"",true,true,1]],[],[],[],[],[]]',
]


@pytest.mark.parametrize("body", _SHAPES)
def test_a_memory_of_another_shape_is_none(body: bytes) -> None:
    head = dump_pipeline(Pipeline()).split(b" ")
    data = b" ".join(head[:2]) + b" %08x\n" % zlib.crc32(body) + body
    assert load_pipeline(data, "dvcx.yaml") is None
