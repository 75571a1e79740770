"""The network and the service fail at every place: nothing partial is seen, nothing hangs, running it again finishes.

Items 20, 45 and 64 to 71 of the list of faults, on real S3 servers, with the real program.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dvcx.core.packing import FOOTER_SIZE
from dvcx.io.store.backend import Backend
from dvcx.io.store.schemes import open_backend
from tests import servers
from tests.faults.world import World, copy_world, identity, pack_objects
from tests.servers import HttpFaults, S3Server

IMPATIENT = 1  # seconds without progress, where there will be none
PATIENT = 20  # where the server answers, on a machine as busy as it may be
SOON = 30  # seconds that a command may take that gives up by itself: the usual patience, 60, was not waited for
PLACES = (1, 200, 700, 3_000, 20_000, 70_000, 300_000, 1_000_000, 5_000_000, 18_000_000)
USUAL = (200, 20_000, 5_000_000)


class Site:
    """A project whose remote is on an S3 server, reached straight or through something that hurts."""

    def __init__(self, world: World, server: S3Server) -> None:
        self.world = world
        self.server = server
        self.url, self.options = server.fresh()
        self.prefix = self.url.rpartition("/")[2]
        world.ok("remote", "add", "-d", "origin", self.url)
        self.reach(server.port)

    def reach(self, port: int, *, timeout: int = PATIENT) -> None:
        """Let the project talk to this port."""
        settings = {**self.options, "endpoint": f"http://127.0.0.1:{port}", "timeout": str(timeout)}
        text = "".join(f'{key} = {value if key == "timeout" else json.dumps(value)}\n' for key, value in settings.items())
        file = self.world.put(".dvcx/config.local.toml", f"[remote.origin]\n{text}")
        file.chmod(0o600)

    def data(self, *, small: int = 150, large: int = 20 << 20) -> None:
        """Small files that become a pack, and a large one."""
        for number in range(small):
            self.world.put(f"data/{number:03}", os.urandom(500))
        if large:
            self.world.put("data/large", os.urandom(large))
        self.world.ok("add", "data")

    def backend(self) -> Backend:
        """The store, reached straight."""
        return open_backend(self.url, self.options, base="/")

    def names(self, prefix: str = "") -> list[str]:
        backend = self.backend()
        try:
            return sorted(item.name for item in backend.list(prefix))
        finally:
            backend.close()

    def check_nothing_partial(self, scratch: Path) -> None:
        """Whatever can be seen is what it is called."""
        backend = self.backend()
        for item in list(backend.list("")):
            data = backend.read(item.name)
            if item.name.startswith("objects/"):
                assert identity(data)[0] == "xxh128:" + item.name.removeprefix("objects/").replace("/", "")
            elif item.name.startswith("packs/"):
                assert len(data) > FOOTER_SIZE
                file = scratch / item.name.rpartition("/")[2]
                file.write_bytes(data)
                pack_objects(file)
                file.unlink()
        backend.close()

    def check_pushed(self, base: Path) -> None:
        """A colleague without a cache gets everything, right."""
        self.reach(self.server.port)
        copy = copy_world(self.world, base)
        subprocess.run(["rm", "-rf", str(copy.cache), str(copy.root / "data")], check=True)
        copy.ok("pull")
        for file in (self.world.root / "data").iterdir():
            assert (copy.root / "data" / file.name).read_bytes() == file.read_bytes()
        copy.clean()
        assert copy.temporaries() == []


@pytest.fixture
def site(world: World, s3_server: S3Server) -> Site:
    return Site(world, s3_server)


@pytest.fixture
def sea(world: World, seaweedfs: S3Server) -> Site:
    """On one server only: where what is tried out is dvcx."""
    return Site(world, seaweedfs)


def places(*usual: int) -> list[object]:
    return [pytest.param(count, marks=() if count in usual else pytest.mark.nightly) for count in PLACES]


# The connection breaks


@pytest.mark.parametrize("count", places(*USUAL))
def test_a_push_through_a_line_that_breaks_always(site: Site, tmp_path: Path, count: int) -> None:
    """Item 64, up."""
    site.data()
    with servers.faulty_proxy(site.server.port, "cut", count) as port:
        site.reach(port, timeout=IMPATIENT)
        began = time.monotonic()
        outcome = site.world.run("push", "--jobs", "2")
        took = time.monotonic() - began
    if outcome.code:  # with much room per connection it gets through, piece by piece
        assert outcome.code == 6, outcome.text
        assert "hint:" in outcome.err and "bucket" in outcome.err
    assert took < SOON
    assert site.world.temporaries() == []
    site.check_nothing_partial(tmp_path)
    assert servers.unfinished_uploads(site.server, site.prefix) == []
    site.reach(site.server.port)
    site.world.ok("push")
    site.check_pushed(tmp_path / "other")


@pytest.mark.parametrize("count", places(*USUAL))
def test_a_pull_through_a_line_that_breaks_always(site: Site, tmp_path: Path, count: int) -> None:
    """Item 64, down."""
    site.data()
    site.world.ok("push")
    copy = copy_world(site.world, tmp_path / "copy")
    subprocess.run(["rm", "-rf", str(copy.cache), str(copy.root / "data")], check=True)
    near = Site.__new__(Site)
    near.__dict__.update({**site.__dict__, "world": copy})
    with servers.faulty_proxy(site.server.port, "cutdown", count) as port:
        near.reach(port, timeout=IMPATIENT)
        began = time.monotonic()
        outcome = copy.run("pull", "--jobs", "2")
        took = time.monotonic() - began
    assert outcome.code in (0, 6), outcome.text
    assert took < SOON
    copy.clean()
    near.reach(site.server.port)
    copy.ok("pull")
    for file in (site.world.root / "data").iterdir():
        assert (copy.root / "data" / file.name).read_bytes() == file.read_bytes()
    assert copy.temporaries() == []


@pytest.mark.parametrize("mode", ["cut", "cutdown"])
def test_a_line_that_breaks_a_few_times_only_costs_time(site: Site, tmp_path: Path, mode: str) -> None:
    site.data(large=6 << 20)
    with servers.faulty_proxy(site.server.port, mode, 900, times=4) as port:
        site.reach(port)
        text = site.world.ok("push")
        assert "trying again" in text
        assert text.count("trying again") == 1
    site.check_pushed(tmp_path / "other")


@pytest.mark.parametrize("count", [0, 3_000, 300_000])
def test_a_stall_ends_a_push_in_time(site: Site, tmp_path: Path, count: int) -> None:
    """Item 65."""
    site.data()
    with servers.faulty_proxy(site.server.port, "stall", count) as port:
        site.reach(port, timeout=IMPATIENT)
        began = time.monotonic()
        text = site.world.fails(6, "push", "--jobs", "2")
        assert time.monotonic() - began < SOON
    assert "no progress for 1 seconds" in text
    site.check_nothing_partial(tmp_path)
    site.reach(site.server.port)
    site.world.ok("push")


def test_a_stall_ends_a_pull_in_time(sea: Site) -> None:
    sea.data()
    sea.world.ok("push")
    subprocess.run(["rm", "-rf", str(sea.world.cache), str(sea.world.root / "data")], check=True)
    with servers.faulty_proxy(sea.server.port, "stall", 2_000) as port:
        sea.reach(port, timeout=IMPATIENT)
        began = time.monotonic()
        sea.world.fails(6, "pull", "--jobs", "2")
        assert time.monotonic() - began < SOON
    sea.reach(sea.server.port)
    sea.world.ok("pull")


# The program ends in the middle of a multipart upload


def _stalled_push(site: Site, port: int) -> subprocess.Popen[bytes]:
    """A push that has begun a multipart upload and does not get on with it."""
    site.reach(port, timeout=60)
    process = site.world.start("push", "--jobs", "2")
    deadline = time.monotonic() + 20
    while not servers.unfinished_uploads(site.server, site.prefix):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_in_a_multipart_upload_aborts_it(sea: Site, number: signal.Signals, code: int) -> None:
    """Item 67."""
    sea.data(small=0, large=40 << 20)
    with servers.faulty_proxy(sea.server.port, "stall", 3 << 20) as port:
        process = _stalled_push(sea, port)
        process.send_signal(number)
        out, _ = process.communicate(timeout=25)
    assert process.returncode == code, out
    assert b"Traceback" not in out
    assert servers.unfinished_uploads(sea.server, sea.prefix) == []
    assert sea.names("index") == []
    assert sea.world.temporaries() == []


def test_a_kill_in_a_multipart_upload_leaves_nothing_that_is_seen(sea: Site, tmp_path: Path) -> None:
    """Item 66."""
    sea.data(small=0, large=40 << 20)
    with servers.faulty_proxy(sea.server.port, "stall", 3 << 20) as port:
        process = _stalled_push(sea, port)
        process.kill()
        process.communicate()
    assert sea.names("index") == []
    sea.check_nothing_partial(tmp_path)
    assert all("/.dvcx/state/tmp/push-" in path for path in sea.world.temporaries())
    left = servers.unfinished_uploads(sea.server, sea.prefix)
    assert left
    sea.reach(sea.server.port)
    for stamp in (sea.world.root / ".dvcx/state").glob("*-reaped"):
        os.utime(stamp, (1, 1))
    sea.world.ok("push")
    assert sea.world.temporaries() == []
    sea.check_pushed(tmp_path / "other")
    assert servers.unfinished_uploads(sea.server, sea.prefix) == left  # it is younger than a day: it may be under way
    backend = sea.backend()
    assert backend.reap(0) == len(left)
    backend.close()
    assert servers.unfinished_uploads(sea.server, sea.prefix) == []


# The service refuses


Through = Callable[[Site], AbstractContextManager[HttpFaults]]


@pytest.mark.parametrize(
    ("status", "code", "headers"),
    [
        (500, "InternalError", {}),
        (503, "SlowDown", {}),
        (503, "", {}),
        (429, "TooManyRequests", {"Retry_After": "1"}),
        (400, "RequestTimeout", {}),
        (409, "OperationAborted", {}),
    ],
)
def test_what_may_pass_is_tried_again(sea: Site, tmp_path: Path, status: int, code: str, headers: dict[str, str]) -> None:
    """Item 68, what can be retried: at the first request of each kind, and in the middle of a multipart upload."""
    sea.data()
    with servers.http_faults(sea.server.port) as faults:
        sea.reach(faults.port)
        for method in ("GET", "PUT", "POST"):
            faults.refuse(method, status, code, times=2, **headers)
        faults.refuse("PUT", status, code, path="partNumber=2", **headers)
        text = sea.world.ok("push", "--jobs", "2")
        assert text.count("trying again") == 1
        assert "canary" not in text
        assert faults.rules == []
    assert servers.unfinished_uploads(sea.server, sea.prefix) == []
    sea.check_pushed(tmp_path / "other")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", r"access denied, 403 AccessDenied .*\n.*s3:PutObject"),
        (400, "ExpiredToken", "credentials have expired"),
        (403, "RequestTimeTooSkewed", "clock differs too much"),
        (404, "NoSuchBucket", "bucket 'dvcx-test' does not exist"),
        (403, "InvalidAccessKeyId", "access key is not known"),
    ],
)
@pytest.mark.parametrize("where", ["packs/", "index/"])
def test_what_cannot_pass_ends_it_at_once(
    sea: Site, tmp_path: Path, status: int, code: str, words: str, where: str
) -> None:
    """Item 68, what cannot: also in the middle of a run, and then nothing counts as pushed."""
    sea.data(large=0)
    with servers.http_faults(sea.server.port) as faults:
        sea.reach(faults.port, timeout=60)
        faults.refuse("PUT", status, code, path=where, times=1)
        began = time.monotonic()
        text = sea.world.fails(6, "push", "--jobs", "2")
        assert time.monotonic() - began < SOON
        assert re.search(words, text), text
        assert where in text and "canary" not in text and "trying again" not in text
        assert sea.names("index") == []
        sea.world.ok("push")
    sea.check_pushed(tmp_path / "other")


# Listings


def test_a_listing_that_fails_on_its_second_page_is_no_short_listing(sea: Site) -> None:
    """Item 70."""
    backend = sea.backend()
    for number in range(1010):
        backend.write(f"objects/{number:04}", b"")
    backend.close()
    with servers.http_faults(sea.server.port) as faults:
        options = {**sea.options, "endpoint": f"http://127.0.0.1:{faults.port}"}
        hurt = open_backend(sea.url, options, base="/")
        faults.refuse("GET", 500, "InternalError", path="continuation-token")
        from dvcx.errors import RemoteFailed

        with pytest.raises(RemoteFailed):
            list(hurt.list("objects"))
        assert sum(1 for _ in hurt.list("objects")) == 1010
        hurt.close()


@pytest.mark.parametrize("status", [500, 403])
def test_a_listing_that_fails_does_not_read_as_empty(sea: Site, status: int) -> None:
    sea.data(large=0)
    sea.world.ok("push")
    with servers.http_faults(sea.server.port) as faults:
        sea.reach(faults.port, timeout=IMPATIENT if status == 500 else PATIENT)
        faults.refuse("GET", status, "AccessDenied" if status == 403 else "InternalError", path="list-type", times=500)
        text = sea.world.fails(6, "push")
        assert "listing" in text
        if status == 403:
            assert "s3:ListBucket" in text
        assert faults.seen.get("PUT", 0) == 0  # nothing was sent as if the remote were empty


# What is on the remote is not what it was


def test_what_was_deleted_there_is_sent_again(site: Site, tmp_path: Path) -> None:
    """Item 69."""
    site.data(large=3 << 20)
    site.world.ok("push")
    backend = site.backend()
    names = [item.name for item in backend.list("") if item.name.startswith(("packs/", "objects/"))]
    for name in names[:2]:
        backend.delete(name)
    backend.close()
    assert "sent" in site.world.ok("push")
    site.check_pushed(tmp_path / "other")


def test_an_object_larger_than_recorded_is_not_read(site: Site) -> None:
    """Item 45."""
    site.data(small=0, large=3 << 20)
    site.world.ok("push")
    backend = site.backend()
    largest = max(backend.list(""), key=lambda item: item.size)
    assert largest.name.startswith("objects/")
    backend.write(largest.name, b"x" * (30 << 20))
    backend.close()
    subprocess.run(["rm", "-rf", str(site.world.cache), str(site.world.root / "data")], check=True)
    outcome = site.world.run("pull")
    assert outcome.code in (4, 5), outcome.text
    held = sum(file.stat().st_size for file in (site.world.root / ".dvcx").rglob("*") if file.is_file())
    assert held < 4 << 20


# Several clients


@pytest.mark.parametrize("kind", ["seaweedfs", "rclone", "directory"])
def test_four_clients_push_overlapping_sets_at_once(
    kind: str, world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Item 20."""
    if kind == "directory":
        (tmp_path / "store").mkdir()
        world.ok("remote", "add", "-d", "origin", str(tmp_path / "store"))
    else:
        Site(world, request.getfixturevalue(kind)).reach(request.getfixturevalue(kind).port)
    files = {f"{number:03}": os.urandom(700) for number in range(260)}
    files["large"] = os.urandom(9 << 20)
    clients = []
    for number in range(4):
        client = copy_world(world, tmp_path / f"client-{number}")
        for name in [*sorted(files)[40 * number : 40 * number + 140], "large"]:
            client.put(f"data/{name}", files[name])
        client.ok("add", "data")
        clients.append(client)
    running = [client.start("push") for client in clients]
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
    for number, client in enumerate(clients):
        wanted = {file.name: file.read_bytes() for file in (client.root / "data").iterdir()}
        subprocess.run(["rm", "-rf", str(client.cache), str(client.root / "data")], check=True)
        client.ok("pull")
        assert {file.name: file.read_bytes() for file in (client.root / "data").iterdir()} == wanted, number
        assert "holds everything already" in client.ok("push")
