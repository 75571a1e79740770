"""Tables in files: CSV and TSV as rows of text, JSON of any size within reason. No table library is needed for these."""

from __future__ import annotations

from typing import Any

from dvcx.errors import IntegrityError, UnsafeInput, display

MAX_CELLS = 20_000_000
_MAX_CELL = 1 << 20


def read_table(data: bytes, where: str, *, header: bool = True) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the CSV (by its extension: TSV) file `where`; blank lines are passed over.

    A CSV file whose first line has semicolons and no comma is separated by those, as spreadsheets write it in many countries.
    Without `header` in the file the columns are called "0", "1", …. Raises `IntegrityError` for bytes that are no UTF-8,
    a row longer than the header, a column named twice and broken quotes; `UnsafeInput` past `MAX_CELLS` cells.
    """
    import csv
    import io

    where = display(where)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise IntegrityError(f"{where}:{line}: not valid UTF-8", "save the file as UTF-8") from None
    if "\0" in text:
        raise IntegrityError(f"{where}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL byte", "is it a text file?")
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, where), strict=True)
    names: list[str] = []
    rows: list[list[str]] = []
    cells = 0
    try:
        for row in reader:
            if not any(row):
                continue
            if not names:
                names = [name.strip() for name in row] if header else [str(number) for number in range(len(row))]
                _check_names(names, where)
                if header:
                    continue
            if len(row) > len(names):
                raise IntegrityError(
                    f"{where}:{reader.line_num}: {len(row)} cells, and the first row has {len(names)}", "is a comma not quoted?"
                )
            cells += len(row)
            if cells > MAX_CELLS:
                raise UnsafeInput(f"{where}: more than {MAX_CELLS:,} cells", "write fewer rows into the file")
            rows.append(row)
    except csv.Error as error:
        raise IntegrityError(f"{where}:{reader.line_num}: broken table: {display(str(error))}", "check its quotes") from None
    return names, rows


def _separator(text: str, where: str) -> str:
    if where.lower().endswith(".tsv"):
        return "\t"
    first = text[: text.find("\n")] if "\n" in text else text
    return ";" if ";" in first and "," not in first else ","


def _check_names(names: list[str], where: str) -> None:
    twice = next((name for name in names if name and names.count(name) > 1), "") if len(names) < 10_000 else ""
    if twice:
        raise IntegrityError(f"{where}: column '{display(twice[:80])}' twice", "give every column a name of its own")


def read_json(data: bytes, where: str) -> Any:
    """The value in a large JSON file `where`, such as data to draw.

    Raises `IntegrityError` for broken JSON, naming the place, and `UnsafeInput` for what is nested too deep.
    """
    import json

    where = display(where)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise IntegrityError(f"{where}:{line}: not valid UTF-8", "save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise IntegrityError(f"{where}:{error.lineno}:{error.colno}: broken JSON: {error.msg}", "repair it there") from None
    except RecursionError:
        raise UnsafeInput(f"{where}: nested too deep", "write a list of flat records") from None
    except ValueError as error:
        raise IntegrityError(f"{where}: broken JSON: {display(str(error)[:200])}", "repair it") from None
