"""Addresses of remotes: which backend, which extra, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dvcx.errors import UsageError
from dvcx.io.store.fsspec import FsspecBackend
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.objectstore import ObjectBackend, part_size
from dvcx.io.store.schemes import open_backend

KEYS = {"access_key_id": "key", "secret_access_key": "c2VjcmV0", "endpoint": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("store", "{base}/store"),
        ("../store", "{parent}/store"),
        ("/abs/store/", "/abs/store"),
        ("file:///abs/a%20b", "/abs/a b"),
        ("file://localhost/abs", "/abs"),
        ("dir:with:colons", "{base}/dir:with:colons"),
    ],
)
def test_directories(url: str, root: str, tmp_path: Path) -> None:
    backend = open_backend(url, {"fsync": "none", "compression": "none"}, base=str(tmp_path))
    assert isinstance(backend, LocalBackend)
    assert backend.root == root.format(base=tmp_path, parent=tmp_path.parent)


def test_services() -> None:
    assert isinstance(open_backend("s3://bucket/a/b/", KEYS, base="/"), ObjectBackend)
    assert open_backend("s3://bucket/a/b/", KEYS, base="/").url == "s3://bucket/a/b"
    assert isinstance(open_backend("az://container/a", {**KEYS, "access_key_id": "account"}, base="/"), ObjectBackend)
    assert isinstance(open_backend("memory://x/y", {}, base="/"), FsspecBackend)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:canary@bucket/x",
        "s3://canary@bucket/x",
        "sftp://user:canary@host/x",
        "az://container/x?sig=canary",
        "https://user:canary@host/x",
        "s3://bucket/x#canary",
        "memory://:canary@host/",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_backend(url, {}, base="/")
    assert "canary" not in caught.value.message + caught.value.hint
    assert "https" in url or "config.local.toml" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://x/y", "no scheme for a remote"),
        ("http://host/x", "no scheme for a remote"),
        ("simplecache::s3://x/y", "malformed"),
        ("memory::s3://x/y", "malformed"),
        ("s3:/bucket", "two slashes"),
        ("s3:bucket", "two slashes"),
        ("s3://", "names no bucket"),
        ("file://host/x", "another host"),
        ("memory://x/../../y", r"'\.\.'"),
        ("", "empty"),
        ("s3://[bad/x", "malformed"),
    ],
)
def test_malformed_addresses(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        open_backend(url, KEYS, base="/")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": "soon"}, "timeout must be"),
        ({"timeout": "-1"}, "timeout must be"),
        ({"timeout": "nan"}, "timeout must be"),
        ({"secret_access_key": ""}, "go together"),
        ({"endpoint": "ftp://x"}, "endpoint must be"),
        ({"endpoint": "host:9000"}, "endpoint must be"),
        ({"endpoint": "http://key:canary@host"}, "endpoint holds credentials"),
    ],
)
def test_bad_options(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        open_backend("s3://bucket/x", {**KEYS, **options}, base="/")
    assert "canary" not in caught.value.message + caught.value.hint


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    present = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("obstore", "paramiko") else present(name))
    for url, extra in (("s3://b/x", "s3"), ("gs://b/x", "gs"), ("az://b/x", "az"), ("sftp://h/x", "ssh")):
        with pytest.raises(UsageError) as caught:
            open_backend(url, {}, base="/")
        assert caught.value.hint == f'pip install "dvcx[{extra}]"'


@pytest.mark.parametrize("size", [0, 1, 16 << 20, 120 * 10**9, 5 * 2**40])
def test_no_upload_has_too_many_parts(size: int) -> None:
    assert part_size(size) >= 16 << 20
    assert size <= 10_000 * part_size(size)
    assert part_size(size) <= 5 * 2**30
