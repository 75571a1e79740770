"""Every valid dvc.yaml is a valid dvcx.yaml and means the same: cases whose answers were compared with DVC's own."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest

from tests.language.cases import Case, dvc_says, dvcx_says, load

ALL = load()
DVC = os.environ.get("DVCX_TEST_DVC", "")


def test_there_are_enough() -> None:
    names = [case.name for case in ALL]
    assert len(names) >= 100
    assert sum(name.startswith("error-") for name in names) >= 30
    assert sum(name.startswith("pipeline-") for name in names) >= 5


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_case(case: Case) -> None:
    assert dvcx_says(case) == case.expected
    if "error" in case.expected:
        place = r"conf\.yaml: parameters must be" if case.name == "error-vars-not-a-mapping" else r"[\w/.]+:\d+:\d+: "
        assert re.match(place, case.expected["error"]), "an error names file, line and column"
        assert case.expected["hint"]


@pytest.mark.nightly
@pytest.mark.skipif(not DVC, reason="DVCX_TEST_DVC names no Python that has DVC")
def test_dvc_says_the_same() -> None:
    said = dvc_says(ALL, DVC)
    problems = {case.name: agree(case, dvcx_says(case), said[case.name]) for case in ALL}
    assert not {name: problem for name, problem in problems.items() if problem}


def agree(case: Case, ours: Any, theirs: Any) -> str:
    """In what the two disagree although they should not, or agree although the case says they differ; "" when all is well."""
    same = ("error" in ours and "error" in theirs) or ours == theirs
    if same == (not case.differs):
        return ""
    if case.differs:
        return "both say the same"
    return f"\n dvcx {json.dumps(ours, sort_keys=True)}\n DVC  {json.dumps(theirs, sort_keys=True)}"
