"""docs/cli.md says what the commands say."""

from __future__ import annotations

from pathlib import Path

import dvcx
from dvcx.cli.reference import reference

PAGE = Path(dvcx.__file__).parents[1] / "docs" / "cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference(), "run: python -m dvcx.cli.reference > docs/cli.md"
