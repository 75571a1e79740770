"""Writes what is expected of every case: `DVCX_TEST_DVC=…/bin/python python -m tests.language`. Look at the difference.

Where DVC and dvcx say the same, or the case says why they differ, the file gets what dvcx says; else both are shown.
"""

from __future__ import annotations

import json
import os
import sys

from tests.language.cases import CASES, dvc_says, dvcx_says, load
from tests.language.test_language import agree


def main() -> int:
    cases = load()
    said = dvc_says(cases, os.environ["DVCX_TEST_DVC"])
    wrong = 0
    for case in cases:
        ours = dvcx_says(case)
        problem = agree(case, ours, said[case.name])
        if problem:
            wrong += 1
            sys.stdout.write(f"{case.name}: {problem}\n")
            continue
        parts = [("differs", case.differs + "\n")] if case.differs else []
        parts += [*case.files.items(), ("expected", json.dumps(ours, indent=1, ensure_ascii=False) + "\n")]
        (CASES / f"{case.name}.txt").write_text("".join(f"=== {name}\n{text}" for name, text in parts))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
