"""Digests: known vectors, one read for both names, files that change while they are read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.objects import ALGORITHMS, Digest
from dvcx.errors import DiskRefused, NotFound, UnsafeInput
from dvcx.io import hashing

# XXH3-128 (seed 0) of nothing and of "abc"; BLAKE3 from its own test vectors (input bytes 0, 1, …, 250, 0, 1, …).
XXH128 = {b"": "99aa06d3014798d86001c324468d497f", b"abc": "06b05ab6733a618578af5f94892f3950"}
BLAKE3 = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
}


def pattern(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


@pytest.mark.parametrize(("data", "hexes"), XXH128.items())
def test_known_vectors_of_xxh128(data: bytes, hexes: str) -> None:
    assert hashing.digest(data, "xxh128").id == "xxh128:" + hexes
    assert hashing.xxh128(data).hex() == hexes


@pytest.mark.parametrize(("length", "hexes"), BLAKE3.items())
def test_known_vectors_of_blake3(length: int, hexes: str) -> None:
    data = pattern(length)
    assert hashing.seal(data).hex() == hashing.digest(data, "xxh128").seal == hexes
    assert hashing.digest(data, "blake3") == Digest("blake3:" + hexes, hexes)


@given(st.lists(st.binary(max_size=2000), max_size=8), st.sampled_from(sorted(ALGORITHMS)))
def test_pieces_are_the_whole(pieces: list[bytes], algorithm: str) -> None:
    hasher = hashing.Hasher(algorithm)
    for piece in pieces:
        hasher.update(piece)
    assert hasher.digest() == hashing.digest(b"".join(pieces), algorithm)


SIZES = [0, 1, hashing.BUFFER - 1, hashing.BUFFER, hashing.BUFFER + 1, 3 * hashing.BUFFER + 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_file_streams_to_what_one_shot_gives(tmp_path: Path, size: int, algorithm: str) -> None:
    data = pattern(size)
    (tmp_path / "f").write_bytes(data)
    told: list[int] = []
    assert hashing.digest_file(str(tmp_path / "f"), algorithm, advanced=told.append) == hashing.digest(data, algorithm)
    assert sum(told) == size


@contextmanager
def writing(work: Callable[[], object]) -> Iterator[None]:
    """Another thread repeats `work` meanwhile."""
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            work()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_file_that_keeps_changing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(pattern(8 << 20))
    # What another program appends between two of our reads.
    told = lambda count: os.write(out, b"more")  # noqa: E731
    out = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        with pytest.raises(DiskRefused, match="it changed while it was read") as caught:
            hashing.digest_file(str(path), "xxh128", advanced=told)
    finally:
        os.close(out)
    assert "log" in caught.value.message and caught.value.exit_code == 8


def test_a_file_that_changes_once_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(pattern(3 << 20))
    once = [b"end"]

    def told(count: int) -> None:
        if once:
            with path.open("ab") as file:
                file.write(once.pop())

    assert hashing.digest_file(str(path), "xxh128", advanced=told) == hashing.digest(pattern(3 << 20) + b"end", "xxh128")


def test_bytes_replaced_in_place_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * (4 << 20))

    def told(count: int) -> None:
        with path.open("r+b") as file:  # the same length, the same inode
            file.write(b"b")
        os.utime(path, ns=(1, next(times)))

    times = iter(range(1, 100))
    with pytest.raises(DiskRefused):
        hashing.digest_file(str(path), "xxh128", advanced=told)


def test_small_files_are_retried_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1000)
    with writing(lambda: os.utime(path)):
        fd = os.open(path, os.O_RDONLY)
        try:
            for _ in range(50):
                try:
                    names, size, data = hashing.read_small(fd, "xxh128", "f")
                except DiskRefused as error:
                    assert "it changed while it was read" in error.message
                else:
                    assert (names, size, data) == (hashing.digest(b"x" * 1000, "xxh128"), 1000, b"x" * 1000)
                os.lseek(fd, 0, os.SEEK_SET)
        finally:
            os.close(fd)


def test_small_means_below_a_mebibyte(tmp_path: Path) -> None:
    for size, whole in ((hashing.SMALL - 1, True), (hashing.SMALL, False)):
        (tmp_path / "f").write_bytes(pattern(size))
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        try:
            assert (hashing.read_small(fd, "xxh128", "f")[1] == size) == whole
        finally:
            os.close(fd)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskRefused):
        hashing.digest_file(str(tmp_path / "link"), "xxh128")
    with pytest.raises(NotFound):
        hashing.digest_file(str(tmp_path / "absent"), "xxh128")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        pipe = hashing.open_file("pipe", fd, "pipe", follow=False)
        try:
            with pytest.raises(UnsafeInput, match="no longer a regular file"):
                hashing.read_small(pipe, "xxh128", "pipe")
        finally:
            os.close(pipe)
    finally:
        os.close(fd)


def test_words_for_bytes_that_are_not_what_their_record_says() -> None:
    right, wrong = hashing.digest(b"right", "xxh128"), hashing.digest(b"wrong", "xxh128")
    corrupt = hashing.mismatch(wrong, right, "x", "mend it")
    assert "hash mismatch" in corrupt.message and corrupt.hint == "mend it"
    assert "forged" in hashing.mismatch(right, right._replace(seal="0" * 64), "x", "mend it").message
