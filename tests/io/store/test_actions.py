"""Results and requests of actions in a store: what is there is doubted, and the first stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.core.objects import Content
from dvcx.core.records import Action, Asked, Request, Terms, encode_action, encode_request
from dvcx.errors import DvcxError, IntegrityError, NotFound, UnsafeInput
from dvcx.io.hashing import seal
from dvcx.io.store.actions import keep_action, read_action, read_request, write_request
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.store import action_name, request_name

KEY = "ab" * 32
ONE = Content("blob", "xxh128:" + "1" * 32, "1" * 64, 1)
TWO = Content("blob", "xxh128:" + "2" * 32, "2" * 64, 1)
TREE = Content("tree", "xxh128:" + "3" * 32, "3" * 64, 5, 2)
REQUEST = Request(("a", "b"), "w", {"in": ONE, "lib": TREE}, {"params.yaml": {"lr": 0.1}}, ("out",), {"HOME": "4" * 64})


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(str(tmp_path / "store"))


def test_the_first_result_stays(backend: LocalBackend) -> None:
    first, other = Action(KEY, {"out": ONE}), Action(KEY, {"out": TWO})
    assert read_action(backend, KEY, "here") is None
    assert keep_action(backend, first, "here") == (first, True)
    assert keep_action(backend, first, "here") == (first, True)
    assert keep_action(backend, other, "here") == (first, False)
    assert read_action(backend, KEY, "here") == first


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\0" * 100,
        b"[" * 100_000,
        encode_action(Action("cd" * 32, {"out": ONE})),
        encode_action(Action(KEY, {"out": ONE})).replace(b'"out"', b'"../out"'),
        encode_action(Action(KEY, {"out": ONE})).replace(b'"out"', b'".git/config"'),
        encode_action(Action(KEY, {"out": ONE})).replace(b"xxh128:", b"md5:"),
        b" " * (5 << 20),
    ],
)
def test_a_hostile_result_is_an_error_and_is_replaced(backend: LocalBackend, data: bytes) -> None:
    backend.write(action_name(KEY), data)
    with pytest.raises((IntegrityError, UnsafeInput)):
        read_action(backend, KEY, "there")
    good = Action(KEY, {"out": ONE})
    assert keep_action(backend, good, "there") == (good, True) and read_action(backend, KEY, "there") == good


def test_a_request_proves_itself(backend: LocalBackend) -> None:
    key = write_request(backend, Asked(REQUEST))
    assert key == seal(encode_request(REQUEST)).hex() and read_request(backend, key, "there") == Asked(REQUEST)
    assert b"".join(backend.stream(request_name(key), 1 << 20)) == encode_request(REQUEST)  # no terms, no more bytes
    with pytest.raises(NotFound, match="holds no request"):
        read_request(backend, KEY, "there")
    backend.write(request_name(KEY), encode_request(REQUEST))
    with pytest.raises(IntegrityError, match="not the digest"):
        read_request(backend, KEY, "there")


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST._replace(wdir="../up"),
        REQUEST._replace(outs=("/etc/passwd",)),
        REQUEST._replace(deps={".git/hooks/x": ONE}),
        REQUEST._replace(params={"../p.yaml": {}}),
        REQUEST._replace(deps={"in": Content("blob", "md5:1", "y", 1)}),
    ],
)
def test_a_hostile_request_is_refused_though_it_proves_itself(backend: LocalBackend, request_: Request) -> None:
    key = write_request(backend, Asked(request_))
    with pytest.raises(DvcxError):
        read_request(backend, key, "there")


def test_terms_are_no_part_of_the_key(backend: LocalBackend) -> None:
    asked = Asked(REQUEST._replace(code={"a.py": "ab" * 32}), Terms(1.5, 2, {"a.py": ONE}))
    key = write_request(backend, asked)
    assert key == write_request(backend, Asked(asked.request)) and read_request(backend, key, "there").terms == Terms()
    assert write_request(backend, asked) == key and read_request(backend, key, "there") == asked


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b'{"dvcx":2}',
        b'{"dvcx":1,"timeout":-1}',
        b'{"dvcx":1,"timeout":NaN}',
        b'{"dvcx":1,"retries":1000}',
        b'{"dvcx":1,"retries":true}',
        b'{"dvcx":1,"cmd":"rm"}',
        b'{"dvcx":1,"code":[["b.py","blob","xxh128:' + b"0" * 32 + b'","' + b"0" * 64 + b'",1,1,false]]}',
    ],
)
def test_hostile_terms_are_refused(backend: LocalBackend, line: bytes) -> None:
    data = encode_request(REQUEST)
    key = seal(data).hex()
    backend.write(request_name(key), data + b"\n" + line)
    with pytest.raises(DvcxError):
        read_request(backend, key, "there")
