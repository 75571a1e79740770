"""What `remote check` tries out, over every kind of backend, and over ones that are broken in a way it must notice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dvcx.errors import RemoteFailed
from dvcx.io.store import contract
from dvcx.io.store.backend import Backend
from dvcx.io.store.contract import FAILED, NOTE, OK, SKIPPED, Finding, examine
from dvcx.io.store.memory import MemoryBackend
from dvcx.io.store.schemes import open_backend
from tests import servers
from tests.io.store.faulty import FaultyBackend
from tests.io.store.test_backends import KINDS, address
from tests.servers import S3Server


def run(backend: Backend, tmp_path: Path, *, quick: bool = True) -> dict[str, Finding]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    found = {finding.check: finding for finding in examine(backend, scratch=str(scratch), quick=quick)}
    assert list(scratch.iterdir()) == []
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_backend_is_fit(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if kind == "memory":
        backend: Backend = MemoryBackend()
    else:
        url, options = address(kind, tmp_path, request)
        if kind in ("directory", "fsspec local"):
            (tmp_path / "store").mkdir()
        backend = open_backend(url, options, base=str(tmp_path))
    found = run(backend, tmp_path, quick=False)
    assert not {finding for finding in found.values() if finding.verdict not in (OK, NOTE)}, found
    assert list(found) == [check for check, _, _ in contract.CHECKS] + ["leaves nothing"]
    assert "MB/s up" in found["large files"].words
    assert list(backend.list("")) == []
    if kind in ("directory", "fsspec local"):
        assert list((tmp_path / "store").rglob("*")) == []
    if kind in ("seaweedfs", "rclone"):
        assert servers.unfinished_uploads(request.getfixturevalue(kind)) == []
    backend.close()


class Lying(FaultyBackend):
    """A backend with one vice for good."""

    def __init__(self, **vices: object) -> None:
        super().__init__(MemoryBackend())
        self.vices = vices

    def _through(self, method: str, name: str, work):  # type: ignore[no-untyped-def]
        vice = self.vices.get(method)
        if isinstance(vice, Exception) and not (method == "read" and name == "store.json"):
            raise vice
        answer = super()._through(method, name, work)
        return vice(answer) if callable(vice) else answer


def old(items):  # type: ignore[no-untyped-def]
    return [item._replace(modified=item.modified - 400) for item in items]


@pytest.mark.parametrize(
    ("vices", "check", "words"),
    [
        ({"list": lambda items: items[:7]}, "list after write", "not listed right after"),
        ({"list": lambda items: [*items, *items[:1]][1:]}, "list after write", ""),
        ({"read": lambda data: data[:-1]}, "read back", "not what is read"),
        ({"size": lambda size: 7}, "delete", "still there"),
        ({"list": old}, "clock", "400 seconds behind"),
    ],
)
def test_a_vice_is_noticed(vices: dict[str, object], check: str, words: str, tmp_path: Path) -> None:
    found = run(Lying(**vices), tmp_path)
    if words:
        assert found[check].verdict == FAILED and words in found[check].words
        assert found[check].hint
    else:  # an order, or a name listed twice, is nobody's promise
        assert found[check].verdict == OK


def test_a_store_that_forgets(tmp_path: Path) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.fail("write", *[lambda answer: None] * 3)
    inner = backend.inner
    written: list[str] = []
    real = inner.write
    inner.write = lambda name, data: written.append(name) or (None if "over" in name else real(name, data))  # type: ignore
    assert run(backend, tmp_path)["overwrite"].verdict == FAILED


def denied(action: str) -> RemoteFailed:
    return RemoteFailed(f"access denied: {action}", f"grant {action}", permission=action)


def test_a_login_that_may_only_read(tmp_path: Path) -> None:
    backend = Lying(write=denied("s3:PutObject"))
    found = run(backend, tmp_path)
    assert found["list"].verdict == found["read"].verdict == OK
    assert found["write"].verdict == FAILED and found["write"].permission == "s3:PutObject"
    assert {found[check].verdict for check in list(found)[3:]} == {SKIPPED}


def test_a_login_that_may_not_delete_writes_one_file_only_and_names_it(tmp_path: Path) -> None:
    backend = Lying(delete=denied("s3:DeleteObject"), clear=denied("s3:DeleteObject"))
    found = run(backend, tmp_path)
    assert found["delete"].permission == "s3:DeleteObject"
    assert found["leaves nothing"].verdict == FAILED
    (left,) = backend.inner.list("")
    assert left.name in found["leaves nothing"].words


def test_a_login_that_may_not_list(tmp_path: Path) -> None:
    backend = Lying(list=denied("s3:ListBucket"))
    found = run(backend, tmp_path)
    assert found["list"].permission == "s3:ListBucket"
    assert found["read back"].verdict == OK
    assert found["list after write"].verdict == FAILED


def test_what_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    backend = Lying(list=RemoteFailed("the endpoint cannot be reached"))
    with pytest.raises(RemoteFailed, match="cannot be reached"):
        run(backend, tmp_path)
    assert backend.calls.keys() <= {"list"}


@pytest.mark.parametrize("turn", range(1, 30, 4))
def test_nothing_stays_when_it_fails_or_is_stopped_midway(turn: int, tmp_path: Path) -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.fail("write", *[lambda answer: None] * turn, RemoteFailed("gone"))
    run(backend, tmp_path)
    assert list(backend.inner.list("")) == []
    steps = examine(backend, scratch=str(tmp_path / "scratch"), quick=True)
    for _ in range(min(turn, 12)):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert list(backend.inner.list("")) == []


def test_what_killed_checks_left_is_removed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    backend = open_backend(str(store), {}, base="/")
    backend.write("check/aaaa/old", b"")
    backend.write("check/bbbb/new", b"")
    day = time.time() - 90_000
    os.utime(store / "check/aaaa/old", (day, day))
    (store / "packs").mkdir()
    (store / "packs/tmp-dvcx-1").write_bytes(b"")
    os.utime(store / "packs/tmp-dvcx-1", (day, day))
    found = run(backend, tmp_path)
    assert "1 of killed pushes" in found["unfinished uploads"].words
    assert [item.name for item in backend.list("")] == ["check/bbbb/new"]
    assert not (store / "packs/tmp-dvcx-1").exists()


def test_uploads_that_killed_pushes_left_are_aborted(s3_server: S3Server, tmp_path: Path) -> None:
    url, options = s3_server.fresh()
    backend = open_backend(url, options, base="/")
    prefix = url.rpartition("/")[2]
    client = servers._client(s3_server)
    for key in (f"{prefix}/packs/ab/x.pack", f"{prefix}/objects/ab/x", f"{prefix}/else/x", f"{prefix}x/packs/x"):
        client.create_multipart_upload(Bucket=servers.BUCKET, Key=key)
    assert backend.reap(3600) == 0
    assert backend.reap(0) == 2
    left = servers.unfinished_uploads(s3_server)
    assert sorted(left) == sorted([f"{prefix}/else/x", f"{prefix}x/packs/x"])
    for upload in client.list_multipart_uploads(Bucket=servers.BUCKET)["Uploads"]:
        client.abort_multipart_upload(Bucket=servers.BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    client.close()
    backend.close()


def test_a_login_that_may_only_read_on_a_real_server(seaweedfs: S3Server, tmp_path: Path) -> None:
    url, options = seaweedfs.fresh()
    backend = open_backend(url, {**options, "access_key_id": servers.READER_KEY}, base="/")
    found = run(backend, tmp_path)
    assert (found["list"].verdict, found["read"].verdict) == (OK, OK)
    assert (found["write"].verdict, found["write"].permission) == (FAILED, "s3:PutObject")
    assert "access denied, 403" in found["write"].words and "s3:PutObject" in found["write"].hint
    backend.close()


def test_wrong_keys_and_a_missing_bucket_are_errors(s3_server: S3Server, tmp_path: Path) -> None:
    url, options = s3_server.fresh()
    for place, changes, words in (
        (url, {"secret_access_key": "wrong"}, "secret key is wrong"),
        ("s3://nothing-here/x", {}, "bucket 'nothing-here' does not exist"),
    ):
        backend = open_backend(place, {**options, **changes}, base="/")
        with pytest.raises(RemoteFailed, match=words):
            run(backend, tmp_path)
        backend.close()
