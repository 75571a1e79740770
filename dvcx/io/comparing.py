"""Comparing two tables with a tolerance: CSV, TSV and Parquet, read by pandas."""

from __future__ import annotations

import importlib.util
import io

from dvcx.errors import UsageError

TABLES = ("csv", "tsv", "parquet")


def is_table(path: str) -> bool:
    """Whether a file is a table by its extension."""
    return path.rpartition(".")[2].lower() in TABLES


def table_difference(path: str, old: bytes, new: bytes, tolerance: float) -> str:
    """How two tables differ by more than `tolerance` (relative, and absolute near 0), in words; "" when they do not.

    Raises `UsageError` without pandas. What cannot be read as a table differs.
    """
    needs = ("pandas", "pyarrow") if path.lower().endswith(".parquet") else ("pandas",)
    if any(importlib.util.find_spec(name) is None for name in needs):
        raise UsageError("comparing tables with a tolerance needs pandas", 'pip install "dvcx[parquet]"')
    import pandas as pd

    try:
        a, b = _read(path, old), _read(path, new)
    except Exception as error:
        return f"it cannot be read as a table ({type(error).__name__})"
    if list(a.columns) != list(b.columns):
        return "other columns"
    if len(a) != len(b):
        return f"{len(a):,} rows → {len(b):,} rows"
    for name in a.columns:
        try:
            pd.testing.assert_series_equal(a[name], b[name], check_exact=False, rtol=tolerance, atol=tolerance)
        except AssertionError:
            return f"column '{name}' differs by more than {tolerance:g}"
    return ""


def _read(path: str, data: bytes):  # type: ignore[no-untyped-def]
    import pandas as pd

    if path.lower().endswith(".parquet"):
        return pd.read_parquet(io.BytesIO(data))
    return pd.read_csv(io.BytesIO(data), sep="\t" if path.lower().endswith(".tsv") else ",")
