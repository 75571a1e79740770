"""Projects for the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import World, copy_world, new_world
from tests.io.store.conftest import rclone, s3_server, seaweedfs  # noqa: F401


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An empty project in a git repository, to be copied."""
    return new_world(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def world(empty: World, tmp_path: Path) -> Iterator[World]:
    """A copy of the empty project. What lies beside it is untouched when the test ends."""
    made = copy_world(empty, tmp_path)
    yield made
    made.victim_is_untouched()
