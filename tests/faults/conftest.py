"""Projects for the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty project in a git repository. What lies beside it is untouched when the test ends."""
    made = new_world(tmp_path)
    yield made
    made.victim_is_untouched()
