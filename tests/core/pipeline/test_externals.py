"""Which addresses outside the project a stage may read, and what they become."""

from __future__ import annotations

import pytest

from dvcx.core.documents import Document
from dvcx.core.pipeline.dependencies import externals, settled
from dvcx.core.pipeline.externals import address_of, is_url
from dvcx.core.pipeline.schema import Dataset, Stage, Want, parse_pipeline, parse_stages
from dvcx.core.records import LockEntry, Request, decode_lock, decode_request, encode_lock, encode_request
from dvcx.core.staleness import Snapshot, action_key, judge
from dvcx.errors import Conflict, DvcxError, IntegrityError, NotFound, RemoteFailed, UnsafeInput, UsageError
from dvcx.io.yaml import load


@pytest.mark.parametrize(
    ("written", "base", "address"),
    [
        ("/data/x.csv", "", "/data/x.csv"),
        ("//data/./y/../x.csv/", "sub", "/data/x.csv"),
        ("../shared/x", "", "../shared/x"),
        ("../../shared/x", "sub", "../shared/x"),
        ("../shared/x", "sub", ""),
        ("a..b/c", "", ""),
        ("s3://bucket/key", "", "s3://bucket/key"),
        ("https://host/a%20b?raw=true#top", "", "https://host/a%20b?raw=true"),
        ("ssh://me@host/data", "", "ssh://me@host/data"),
        ("remote://store/data", "", "remote://store/data"),
        ("file:///data/x%20y", "", "/data/x y"),
        ("file://localhost/data/x", "", "/data/x"),
    ],
)
def test_addresses(written: str, base: str, address: str) -> None:
    assert address_of(written, base, "here") == address
    assert is_url(address) == ("://" in address)


@pytest.mark.parametrize(
    ("written", "kind", "part"),
    [
        ("https://me:pass@host/x", UsageError, "credentials"),
        ("https://me@host/x", UsageError, "credentials"),
        ("ssh://me:pass@host/x", UsageError, "credentials"),
        ("https://host/x?X-Amz-Signature=1", UsageError, "may be credentials"),
        ("https://host/x?sv=1&sig=", UsageError, "may be credentials"),
        ("https://host/x?access_token=1", UsageError, "may be credentials"),
        ("s3://bucket/x?versionId=1", UsageError, "may be credentials"),
        ("https:///x", UsageError, "names no host"),
        ("file://other/x", UsageError, "names no file here"),
        ("https://[::1/x", UsageError, "malformed"),
        ("https://h/%2e%2e/x", UnsafeInput, "'..'"),
        ("https://h/\x1b[2J", UnsafeInput, "control"),
        ("/a\x1bb", UnsafeInput, "control"),
        ("/", UnsafeInput, "it holds the project"),
        ("..", UnsafeInput, "it holds the project"),
        ("/" + "x" * 5000, UnsafeInput, "too long"),
    ],
)
def test_what_is_refused(written: str, kind: type[DvcxError], part: str) -> None:
    with pytest.raises(kind) as caught:
        address_of(written, "", "dvcx.yaml:1:1")
    assert part in caught.value.message
    assert caught.value.message.startswith("dvcx.yaml:1:1")
    assert "pass" not in caught.value.message
    assert "Signature" not in caught.value.message


def stage(**body: object) -> Stage:
    return parse_stages(Document({"stages": {"a": {"cmd": "x", **body}}}, "dvcx.yaml"), "dvcx.yaml")[0]


def test_a_stage_that_reads_outside() -> None:
    read = stage(deps=["in.csv", "/data/x", "s3://b/k?", {"../y": {"optional": True}}])
    assert (read.deps, [want.value for want in externals(read)]) == (("in.csv",), ["/data/x", "s3://b/k", "../y"])
    assert [want.optional for want in externals(read)] == [False, True, True]


def test_params_of_a_file_outside_count_as_all_of_that_file() -> None:
    read = stage(params=["lr", {"../p.yaml": ["a", "b"]}, {"/conf/q.toml": None}, {"s/../r.json": ["c"]}])
    assert [want.value for want in externals(read)] == ["../p.yaml", "/conf/q.toml"]
    assert [of.file for of in read.params] == ["params.yaml", "r.json"]
    assert settled([read], (), "/conf")[0].deps == ("q.toml",)
    with pytest.raises(UsageError, match=r"params\[0\]\.\.\./p\.yaml\[0\] must be text"):
        stage(params=[{"../p.yaml": [1]}])


@pytest.mark.parametrize("out", ["/data/x", "../x", "s3://b/k"])
@pytest.mark.parametrize("key", ["outs", "metrics", "plots"])
def test_outputs_stay_inside(key: str, out: str) -> None:
    with pytest.raises(UnsafeInput, match="an output leaves the project") as caught:
        stage(**{key: [{out: {"desc": "d"}}]})
    assert "dvcx push" in caught.value.hint


def test_a_path_that_comes_back_is_no_external_one() -> None:
    (found,) = settled([stage(deps=["/p/q/in.csv", "../q/more?", "../r", "s3://b/p/q"])], (), "/p/q")
    assert (found.deps, found.optional) == (("in.csv", "more"), ("more",))
    assert [want.value for want in found.wants] == ["../r", "s3://b/p/q"]
    with pytest.raises(UnsafeInput, match=r"\.git"):
        settled([stage(deps=["/p/q/.git/config"])], (), "/p/q")


SETS = """\
datasets:
- {name: raw, type: dvc, url: git@host:o/r.git, path: data.csv, rev: v1}
- {name: pinned, type: dvc, url: https://host/r, rev_lock: 3f, desc: not part of it}
- {name: table, type: dc, url: "dc://table@v3"}
- {name: local, type: url, url: ../y}
- {name: here, type: url, url: in.csv}
- {name: secret, type: dvc, url: "https://me:pass@host/r"}
stages:
  a:
    cmd: x
    deps: [%s]
"""


def of_sets(deps: str, more: tuple[Dataset, ...] = ()) -> Stage:
    pipeline = parse_pipeline(load((SETS % deps).encode(), "s/dvcx.yaml"), "s/dvcx.yaml")
    return settled(pipeline.stages, (*pipeline.datasets, *more), "/p/q")[0]


def test_a_data_set_is_what_lies_at_its_url_or_what_its_entry_says() -> None:
    found = of_sets("ds://raw, b.csv, ds://pinned/, 'ds://table?', ds://local, ds://here, ds://raw")
    assert [(want.value, want.pinned, want.optional) for want in externals(found)] == [
        ("ds://raw", "dvc git@host:o/r.git path=data.csv rev=v1", False),
        ("ds://pinned", "dvc https://host/r rev_lock=3f", False),
        ("ds://table", "dc dc://table@v3", True),
    ]
    assert found.deps == ("s/b.csv", "y", "s/in.csv")
    assert [found.where(path).removeprefix("s/dvcx.yaml:11:") for path in ("s/b.csv", "ds://table", "y", "s/in.csv")] == [
        *("22", "43", "58", "70")
    ]


def test_data_sets_belong_to_the_whole_project_and_have_one_meaning() -> None:
    other = Dataset("far", "dvc", '{"name":"far","type":"dvc","url":"u"}', "dvcx.yaml")
    assert [want.pinned for want in externals(of_sets("ds://far", (other, other)))] == ["dvc u"]
    with pytest.raises(Conflict, match=r"^s/dvcx\.yaml:11:12: stage .*: dvcx\.yaml and t list different data sets 'far'"):
        of_sets("ds://far", (other, Dataset("far", "dvc", '{"name":"far","type":"dvc","url":"v"}', "t")))
    with pytest.raises(NotFound, match=r"^s/dvcx\.yaml:11:12: stage .*: there is no data set 'rwa'") as caught:
        of_sets("ds://rwa")
    assert "'raw'" in caught.value.hint
    with pytest.raises(UsageError, match="holds credentials") as refused:
        of_sets("ds://secret")
    assert "pass" not in refused.value.message


A = Stage("a", "dvcx.yaml", "x", wants=(Want("external", "/d"), Want("external", "s3://b/k", optional=True)))
ENTRY = LockEntry("x", {}, {}, {}, external={"/d": "file 1 2 3", "s3://b/k": 'etag "1" 3'})


def reasons(**external: str) -> list[str]:
    now = Snapshot({}, external={"/d": "file 1 2 3", "s3://b/k": 'etag "1" 3', **external})
    return [f"{reason.kind} {reason.text}" for reason in judge(A, ENTRY, now)]


def test_why_a_stage_runs() -> None:
    assert reasons() == []
    assert reasons(**{"/d": "file 9 9 9", "s3://b/k": 'etag "2" 3'}) == [
        "dep_changed /d: changed",
        'dep_changed s3://b/k: changed (etag "1" 3 → etag "2" 3)',
    ]
    assert reasons(**{"/d": "", "s3://b/k": ""}) == [
        "dep_missing /d: is missing",
        "dep_removed s3://b/k: was there, and is missing now",
    ]
    bare = ENTRY._replace(external={"/d": "", "/old": "file"})
    texts = [reason.text for reason in judge(A, bare, Snapshot({}, external=ENTRY.external))]
    assert texts == ["/d: was missing, and is there now", "new dependency s3://b/k", "/old is no longer a dependency"]


def test_who_does_not_answer_is_taken_as_recorded_and_makes_no_key() -> None:
    now = Snapshot({}, external={"/d": "file 1 2 3"}, unasked={"s3://b/k": RemoteFailed("no answer")})
    assert judge(A, ENTRY, now) == ()
    with pytest.raises(RemoteFailed, match="no answer"):
        action_key(A, now)


def test_records() -> None:
    entry = ENTRY._replace(external={"/d": "", "s3://b/k": 'etag "1" 3'})
    assert decode_lock(encode_lock({"a": entry}), "dvcx.lock") == {"a": entry}
    request = Request("x", "", {}, {}, (), external={"/d": "file 1 2 3"})
    assert decode_request(encode_request(request), "r") == request
    assert encode_request(request) != encode_request(request._replace(external={"/d": "file 1 2 4"}))
    assert b"external" not in encode_request(request._replace(external={}))
    with pytest.raises(IntegrityError, match="printable"):
        decode_lock(encode_lock({"a": entry}).replace(b'etag', b'\\u001b'), "dvcx.lock")
