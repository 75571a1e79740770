"""Pointer, lock and action: bytes to values and back, and every way they can be broken."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core import records
from dvcx.core.objects import Content
from dvcx.core.records import Action, LockEntry, Pointer, Used
from dvcx.errors import DvcxError, IntegrityError, UnsafeInput

ID = "xxh128:" + "0a" * 16
SEAL = "1b" * 32
KEY = "2c" * 32

hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
sizes = st.integers(0, 1 << 62)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
blobs = st.builds(lambda h, size, run: Content("blob", "xxh128:" + h[:32], h, size, 1, run), hexes, sizes, st.booleans())
trees = st.builds(lambda h, size, files: Content("tree", "blake3:" + h, h, size, files), hexes, sizes, sizes)
contents = st.one_of(blobs, trees)
safe_paths = st.lists(st.text("abcé -\n", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)
climbing = st.builds(lambda up, path: "../" * up + path, st.integers(0, 2), safe_paths)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=6,
)
notes = st.fixed_dictionaries(
    {}, optional={"desc": words, "labels": st.lists(words, max_size=2), "meta": st.dictionaries(words, plain, max_size=2)}
)
pointers = st.builds(Pointer, safe_paths, contents, words, st.booleans(), notes)
entries = st.builds(
    LockEntry,
    st.one_of(words, st.lists(words, max_size=3).map(tuple)),
    st.dictionaries(climbing, contents, max_size=3),
    st.dictionaries(climbing, st.dictionaries(words, plain, max_size=3), max_size=2),
    st.dictionaries(climbing, contents, max_size=3),
    absent=st.lists(climbing, max_size=2, unique=True).map(sorted).map(tuple),
    used=st.dictionaries(
        st.builds("{}:{}".format, st.sampled_from(["glob", "py"]), climbing),
        st.dictionaries(climbing, st.builds(Used, blobs, st.sampled_from(["", KEY])), max_size=2),
        max_size=2,
    ),
    env=st.dictionaries(words, st.sampled_from(["", KEY]), max_size=2),
    external=st.dictionaries(st.sampled_from(["/x", "../y", "s3://b/k é"]), st.sampled_from(["", 'etag "1" 3']), max_size=2),
)


@given(pointers)
def test_a_pointer_comes_back(pointer: Pointer) -> None:
    data = records.encode_pointer(pointer)
    assert records.decode_pointer(data, "x.dvcx") == pointer
    assert records.encode_pointer(records.decode_pointer(data, "x.dvcx")) == data
    assert data.endswith(b"}\n") and not data.startswith(b"\xef\xbb\xbf")


@given(st.dictionaries(st.one_of(words, words.map("g@{}".format)), entries, max_size=3))
def test_a_lock_comes_back(lock: dict[str, LockEntry]) -> None:
    data = records.encode_lock(lock)
    assert records.decode_lock(data, "dvcx.lock") == lock
    assert records.encode_lock(dict(reversed(lock.items()))) == data


@given(st.dictionaries(safe_paths, contents, max_size=4))
def test_an_action_comes_back(outs: dict[str, Content]) -> None:
    action = Action(KEY, outs)
    assert records.decode_action(records.encode_action(action), "action") == action


def test_a_pointer_is_written_as_the_format_page_says() -> None:
    data = records.encode_pointer(Pointer("data-input.csv", Content("blob", ID, SEAL, 217)))
    assert data.decode() == (
        f'{{\n  "dvcx": 1,\n  "path": "data-input.csv",\n  "kind": "blob",\n  "hash": "{ID}",\n'
        f'  "blake3": "{SEAL}",\n  "size": 217\n}}\n'
    )


def test_infinity_in_params_comes_back() -> None:
    lock = {"s": LockEntry("x", {}, {"p.yaml": {"a": float("inf"), "b": float("-inf")}}, {})}
    assert records.decode_lock(records.encode_lock(lock), "l") == lock
    assert b"NaN" in records.encode_lock({"s": LockEntry("x", {}, {"p.yaml": {"a": float("nan")}}, {})})


def pointer_record(**changes: Any) -> bytes:
    record = {"dvcx": 1, "path": "x", "kind": "blob", "hash": ID, "blake3": SEAL, "size": 1}
    record.update(changes)
    return json.dumps({key: value for key, value in record.items() if value is not ...}).encode()


GOOD = pointer_record()
BROKEN = {
    "empty": b"",
    "blank": b" \n\n",
    "zeros": b"\0" * 200,
    "half": GOOD[: len(GOOD) // 2],
    "cut": GOOD[:-1],
    "text": b"hello",
    "list": b"[]",
    "null": b"null",
    "yaml": b"outs:\n- md5: 123\n",
    "merge conflict": b"<<<<<<< HEAD\n" + GOOD,
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "not UTF-8": GOOD.replace(b'"x"', b'"\xff"'),
    "half a surrogate": pointer_record(desc="\ud800"),
    "doubled key": GOOD[:-1] + b', "size": 2}',
    "no version": pointer_record(dvcx=...),
    "next version": pointer_record(dvcx=2),
    "version true": pointer_record(dvcx=True),
    "version 1.0": pointer_record(dvcx=1.0),
    "version text": pointer_record(dvcx="1"),
    "unknown key": pointer_record(cmd="touch PWNED"),
    "no kind": pointer_record(kind=...),
    "unknown kind": pointer_record(kind="fifo"),
    "kind a list": pointer_record(kind=["blob"]),
    "no size": pointer_record(size=...),
    "negative size": pointer_record(size=-1),
    "size true": pointer_record(size=True),
    "size text": pointer_record(size="1"),
    "size 1.5": pointer_record(size=1.5),
    "endless size": pointer_record(size=1 << 63),
    "monstrous size": GOOD.replace(b": 1}", b": " + b"9" * 5000 + b"}"),
    "files of a blob": pointer_record(files=3),
    "tree without files": pointer_record(kind="tree"),
    "exec tree": pointer_record(kind="tree", files=1, exec=True),
    "exec 1": pointer_record(exec=1),
    "push text": pointer_record(push="no"),
    "remote number": pointer_record(remote=1),
    "desc number": pointer_record(desc=1),
    "labels text": pointer_record(labels="a"),
    "meta list": pointer_record(meta=[]),
}
PATHS = ("../x", "a/../../x", "/abs", ".git/hooks/x", ".GIT/x", "git~1/x", ".dvcx/config", "", ".", "a//b", "a\0b", "x\r", 1)
HASHES = ("aa/../../../x", ID.upper(), ID[:-1], 1, [ID], None, "md5:" + "0" * 32)
UNSAFE = {
    **{f"path {path!r}": pointer_record(path=path) for path in PATHS},
    "no path": pointer_record(path=...),
    "deep path": pointer_record(path="/".join("d" * 5000)),
    **{f"hash {value!r}": pointer_record(hash=value) for value in HASHES},
    **{f"seal {value!r}": pointer_record(blake3=value) for value in ("", SEAL[:-1], "../" + SEAL[3:], 5)},
    "too large": pointer_record(desc="x" * records.MAX_POINTER),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_pointer_is_an_integrity_error(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        records.decode_pointer(data, "d/x.dvcx")
    assert caught.value.exit_code == 4
    assert "d/x.dvcx" in caught.value.message and caught.value.hint and caught.value.message.isprintable()


@pytest.mark.parametrize("data", [b"", b" ", GOOD[:40]])
def test_a_truncated_pointer_says_so_and_how_to_restore_it(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="truncated") as caught:
        records.decode_pointer(data, "d/x.dvcx")
    assert caught.value.hint == "restore it: git checkout -- d/x.dvcx"


@pytest.mark.parametrize("data", UNSAFE.values(), ids=range(len(UNSAFE)))
def test_a_hostile_pointer_is_unsafe(data: bytes) -> None:
    with pytest.raises(UnsafeInput) as caught:
        records.decode_pointer(data, "x.dvcx")
    assert caught.value.exit_code == 9 and "x.dvcx" in caught.value.message and caught.value.message.isprintable()


def lock_record(**stage: Any) -> bytes:
    return json.dumps({"dvcx": 1, "stages": {"s": {"cmd": "true", **stage}}}).encode()


OUT = {"path": "x", "kind": "blob", "hash": ID, "blake3": SEAL, "size": 1}
BROKEN_LOCKS = {
    "empty": b"",
    "half": lock_record()[:20],
    "no stages": b'{"dvcx": 1}',
    "stages a list": b'{"dvcx": 1, "stages": []}',
    "extra key": b'{"dvcx": 1, "stages": {}, "run": "x"}',
    "stage text": b'{"dvcx": 1, "stages": {"s": "x"}}',
    "unknown stage key": lock_record(run="touch PWNED"),
    "cmd number": lock_record(cmd=1),
    "cmd mixed": lock_record(cmd=["a", 1]),
    "deps object": lock_record(deps={}),
    "dep text": lock_record(deps=["x"]),
    "dep with more": lock_record(deps=[{**OUT, "cmd": "x"}]),
    "doubled path": lock_record(outs=[OUT, OUT]),
    "params list": lock_record(params=[]),
    "params value": lock_record(params={"p.yaml": 1}),
    "absent text": lock_record(absent="x"),
    "line": lock_record(outs={"a": f"file {ID} {SEAL}"}),
    "line of a tree": lock_record(outs={"a": f"tree {ID} {SEAL} 1"}),
    "line of a link": lock_record(outs={"a": f"link {ID} {SEAL} 1"}),
    "line with a size": lock_record(outs={"a": f"file {ID} {SEAL} 1e9"}),
    "line a number": lock_record(outs={"a": 1}),
    "env list": lock_record(env=["A"]),
    "used list": lock_record(used=[]),
    "used of another kind": lock_record(used={"sh:x": {}}),
    "used file": lock_record(used={"glob:x": {"a": {"hash": "x"}}}),
    "used line": lock_record(used={"glob:x": {"a": f"file {ID} {SEAL}"}}),
    "used size": lock_record(used={"glob:x": {"a": f"file {ID} {SEAL} -1"}}),
    "used huge": lock_record(used={"glob:x": {"a": f"file {ID} {SEAL} {'9' * 30}"}}),
    "doubled stage": b'{"dvcx": 1, "stages": {"s": {"cmd": "a"}, "s": {"cmd": "b"}}}',
}
UNSAFE_LOCKS = {
    "outside": lock_record(outs=[{**OUT, "path": "/etc/passwd"}]),
    "inner climb": lock_record(outs=[{**OUT, "path": "a/../../x"}]),
    "climb to nothing": lock_record(outs=[{**OUT, "path": "../"}]),
    "git": lock_record(deps=[{**OUT, "path": "../.git/config"}]),
    "hash": lock_record(outs=[{**OUT, "hash": "aa/../x"}]),
    "absent": lock_record(absent=["/etc/passwd"]),
    "env value": lock_record(env={"A": "secret"}),
    "line path": lock_record(deps={"/a": f"file {ID} {SEAL} 1"}),
    "line hash": lock_record(outs={"a": f"file aa/../x {SEAL} 1"}),
    "used path": lock_record(used={"glob:x": {"../../.git/config": f"file {ID} {SEAL} 1"}}),
    "used pattern": lock_record(used={"glob:/etc/*": {}}),
    "used code": lock_record(used={"py:x": {"a": f"file {ID} {SEAL} 1 ../x"}}),
    "params file": lock_record(params={"/etc/passwd": {}}),
    "deep": b'{"dvcx": 1, "stages": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "deep list": b"[" * 1_000_000,
}


@pytest.mark.parametrize("data", BROKEN_LOCKS.values(), ids=BROKEN_LOCKS.keys())
def test_a_broken_lock_is_an_integrity_error(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        records.decode_lock(data, "dvcx.lock")
    assert "dvcx.lock" in caught.value.message and caught.value.message.isprintable()


@pytest.mark.parametrize("data", UNSAFE_LOCKS.values(), ids=UNSAFE_LOCKS.keys())
def test_a_hostile_lock_is_unsafe(data: bytes) -> None:
    with pytest.raises(UnsafeInput):
        records.decode_lock(data, "dvcx.lock")


def test_a_key_that_is_there_twice_is_told_with_its_line() -> None:
    text = '{"dvcx": 1, "stages": {\n  "a\\"b": {"cmd": "x: {", "deps": [{"a": 1}, {"a": 1}],\n    "cmd": 2}}}'
    with pytest.raises(IntegrityError, match=r"^dvcx.lock:3:5: broken record: key 'cmd' twice") as caught:
        records.decode_lock(text.encode(), "dvcx.lock")
    assert caught.value.hint == "restore it: git checkout -- dvcx.lock"


def test_a_million_doubled_keys_are_refused_at_once() -> None:
    body = b",".join(b'"%d":1' % number for number in range(200_000))
    started = time.monotonic()
    with pytest.raises(IntegrityError, match="twice"):
        records.decode_lock(b"{" + body + b',"199999":1}', "dvcx.lock")
    assert time.monotonic() - started < 30


def test_names_in_messages_are_escaped() -> None:
    data = json.dumps({"dvcx": 1, "stages": {"\x1b[31m\n": {"cmd": 1}}}).encode()
    with pytest.raises(IntegrityError) as caught:
        records.decode_lock(data, "dvcx.lock")
    assert "\x1b" not in caught.value.message and "\n" not in caught.value.message


anything = st.one_of(st.binary(max_size=200), plain.map(lambda value: json.dumps(value).encode()), st.just(GOOD))


@pytest.mark.parametrize("decode", [records.decode_pointer, records.decode_lock, records.decode_action])
@settings(max_examples=150)
@given(data=anything)
def test_any_bytes_raise_only_our_errors(decode: Any, data: bytes) -> None:
    try:
        decode(data, "record")
    except DvcxError as error:
        assert error.exit_code in (4, 9) and error.message.isprintable() and error.hint


@given(pointers, st.data())
def test_a_cut_pointer_is_never_read_as_something_else(pointer: Pointer, data: st.DataObject) -> None:
    raw = records.encode_pointer(pointer)
    with pytest.raises(DvcxError):
        records.decode_pointer(raw[: data.draw(st.integers(0, len(raw) - 3))], "x.dvcx")


def test_what_is_not_utf8_cannot_be_written() -> None:
    with pytest.raises(UnsafeInput):
        records.encode_lock({"s": LockEntry("cat caf\udce9", {}, {}, {})})
    assert records.canonical({"b": 1, "a": "\udce9\ud800"}) == b'{"a":"\xed\xb3\xa9\xed\xa0\x80","b":1}'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("x.dvcx", True),
        ("a/b.csv.dvcx", True),
        ("dvcx.yaml", True),
        ("a/dvcx.lock", True),
        (".dvcx", False),
        ("a/.dvcx", False),
        (".dvcx/x.dvcx", False),
        ("a/.git/x.dvcx", False),
        ("dvcx.yml", False),
        ("x.dvcx.bak", False),
        ("a.dvcx/b", False),
    ],
)
def test_is_record(path: str, expected: bool) -> None:
    assert records.is_record(path) is expected


@pytest.mark.parametrize("side", ["<<<<<<< HEAD\n", '{\n  "dvcx": 1,\n<<<<<<< HEAD\n'])
def test_both_sides_of_a_merge_are_told(side: str) -> None:
    with pytest.raises(IntegrityError, match="both sides of a merge") as caught:
        records.decode_pointer(side.encode(), "a.csv.dvcx")
    assert "git checkout --ours -- a.csv.dvcx" in caught.value.hint


def test_many_alike_entries_take_one_line_each() -> None:
    content = Content("blob", ID, SEAL, 5)
    entries = {
        f"clean@{number}.csv": LockEntry(f"cp {number}", {f"raw/{number}.csv": content}, {}, {f"clean/{number}.txt": content})
        for number in range(1000)
    }
    data = records.encode_lock(entries)
    assert records.decode_lock(data, "dvcx.lock") == entries
    assert len(data.splitlines()) == 1000 + 5 and len(data) < 400 * 1000
    # Both forms are read, whatever the name.
    assert records.decode_lock(data.replace(b"@", b"-"), "dvcx.lock").keys() == {name.replace("@", "-") for name in entries}
