"""The documentation is true: its console sessions run, its links resolve, its tables are those of the code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvcx import errors
from dvcx.cli.verbs import ALIASES, EXIT_CODES, VERBS
from dvcx.core.pipeline import schema
from dvcx.errors import DvcxError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = DOCS / "cli.md"
WRITTEN = [page for page in PAGES if page != GENERATED]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Console sessions


@dataclass
class Block:
    """A fenced block. `kind` is the word after the fence, `note` what an HTML comment in the line above it says."""

    kind: str
    note: str
    line: int
    lines: list[str]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page; a comment that stands alone comes as a block without lines."""
    note, block = "", None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if block is not None:
            if line.strip() == "```":
                yield block
                block = None
            else:
                block.lines.append(line)
        elif line.startswith("```"):
            block = Block(line[3:].strip(), note, number, [])
            note = ""
        elif match := re.fullmatch(r"<!-- (.*) -->", line):
            note = match[1]
            if not note.startswith("file: "):
                yield Block("", note, number, [])
                note = ""


def commands(block: Block) -> list[tuple[int, str, list[str]]]:
    """(line, command, the output the page shows) for each command of a console session."""
    found: list[tuple[int, str, list[str]]] = []
    continued = False
    for number, line in enumerate(block.lines, block.line + 1):
        if continued:
            at, command, _ = found[-1]
            found[-1] = (at, f"{command}\n{line}", [])
            continued = line.endswith("\\")
        elif line.startswith("$ "):
            found.append((number, line[2:], []))
            continued = line.endswith("\\")
        elif found:
            found[-1][2].append(line)
    return found


class Session:
    """A shell in a scratch directory: `cd`, exported variables and `$?` carry over from one command to the next."""

    def __init__(self, scratch: Path) -> None:
        tools = scratch / "tools"
        tools.mkdir()
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from dvcx.__main__ import run; sys.exit(run())"
        _script(tools / "dvcx", [sys.executable, "-P", "-c", program])
        _script(tools / "python", [sys.executable])
        self._scratch, self._number = scratch, 0
        self._path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        self.fresh()

    def fresh(self) -> None:
        """Go on in a new directory, as a new shell."""
        self._number += 1
        self.directory = self._scratch / f"work{self._number}"
        self.directory.mkdir()
        self._environment = {**os.environ, "PATH": self._path, "TERM": "dumb", "PYTHONPATH": str(ROOT)}
        self._code = 0

    def example(self) -> None:
        """A git repository with the files of the demo."""
        from dvcx.ops.demo import FILES

        self.write("prices/.keep", "")
        self.directory /= "prices"
        (self.directory / ".keep").unlink()
        for name, text in FILES.items():
            self.write(name, text)
        self.run("git init --quiet")

    def write(self, name: str, text: str) -> None:
        """A file the page shows."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, command: str) -> tuple[int, list[str]]:
        """The exit code and the lines of output, both streams as they came."""
        state = self._scratch / "state"
        after = f"_code=$?; pwd > {shlex.quote(str(state))}; env -0 >> {shlex.quote(str(state))}; exit $_code"
        done = subprocess.run(
            ["bash", "-c", f"(exit {self._code})\n{command}\n{after}"],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        where, _, variables = state.read_text().partition("\n")
        self.directory = Path(where)
        self._environment = dict(item.partition("=")[::2] for item in variables.split("\0") if item)
        self._code = done.returncode
        return done.returncode, done.stdout.splitlines()


def _script(path: Path, command: list[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def play(page: Path, session: Session) -> Iterator[tuple[int, str, list[str], list[str]]]:
    """Run a page from top to bottom: (line, command, what the page shows, what it printed)."""
    for block in blocks(page):
        if block.note == "fresh directory":
            session.fresh()
        elif block.note == "example files":
            session.fresh()
            session.example()
        elif block.note.startswith("file: "):
            session.write(block.note.removeprefix("file: "), "\n".join(block.lines) + "\n")
        elif block.kind == "console":
            for line, command, shown in commands(block):
                code, printed = session.run(command)
                allowed = any(text.startswith(("error:", "CONFLICT")) for text in printed) or any(
                    verb in command for verb in ("dvcx check", "dvcx fsck")
                )
                assert code == 0 or allowed, f"{name_of(page)}:{line}: $ {command}\nexited with {code}:\n" + "\n".join(printed)
                yield line, command, shown, printed


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether output is as shown. `...` stands for any text in its line, alone in a line for any lines; times may differ."""
    pattern = ""
    for line in _timeless(shown):
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("..."))) + r"\n"
    text = "".join(f"{line}\n" for line in _timeless(printed))
    return re.fullmatch(pattern, text) is not None


def _timeless(lines: list[str]) -> list[str]:
    stripped = [re.sub(r"\b\d+(\.\d)? s\b", "N s", line.rstrip()) for line in lines]
    while stripped and not stripped[-1]:
        stripped.pop()
    return stripped


PLAYED = [page for page in WRITTEN if any(block.kind == "console" for block in blocks(page))]


@pytest.mark.skipif(not shutil.which("git") or not shutil.which("bash"), reason="needs git and bash")
@pytest.mark.parametrize("page", PLAYED, ids=name_of)
def test_console_sessions(page: Path, tmp_path: Path) -> None:
    for line, command, shown, printed in play(page, Session(tmp_path)):
        assert matches(shown, printed), f"{name_of(page)}:{line}: $ {command}\nprinted:\n" + "\n".join(printed)


def test_the_main_pages_are_played() -> None:
    assert {"README.md", "docs/tutorial.md", "docs/how-to/recover.md"} <= {name_of(page) for page in PLAYED}


def test_the_matcher() -> None:
    assert matches(["a ... c", "...", "ran  x  0.1 s", ""], ["a b c", "1", "2", "ran  x  12 s"])
    assert not matches(["a"], ["a", "b"]) and not matches(["a.c"], ["abc"])


# Links


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"[-\s]+", "-", plain))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), f"{name_of(page)} links to {target}"
        assert other.is_relative_to(ROOT)
        if page.is_relative_to(DOCS):
            assert other.is_relative_to(DOCS), f"{name_of(page)} links to {target}, which is not part of the site"
        if anchor:
            assert anchor in anchors(other), f"{name_of(page)} links to {target}"


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Tables and names


def test_every_verb_has_a_line() -> None:
    text = "\n".join(page.read_text() for page in WRITTEN)
    missing = [name for name in VERBS if not re.search(rf"\bdvcx {name}\b", text)]
    assert not missing, f"no page but the generated one tells of: {missing}"


def test_only_verbs_that_exist_are_told_of() -> None:
    known = {*VERBS, *ALIASES, "--help", "--version", "COMMAND"}
    for page in WRITTEN:
        code = re.findall(r"`(dvcx [^`\n]+)`|^\$ (?:.*&& )?(dvcx .+)$", page.read_text(), re.MULTILINE)
        for told in (first or second for first, second in code):
            assert told.split()[1] in known, f"{name_of(page)}: {told}"


def test_exit_codes_are_those_of_the_code() -> None:
    page = (DOCS / "exit-codes.md").read_text()
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert told == set(EXIT_CODES)
    classes = dict(re.findall(r"^\| (\d+) \|[^|]*\| `(\w+)` \|", page, re.MULTILINE))
    raised = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DvcxError)} - {DvcxError}
    assert classes == {str(kind.exit_code): kind.__name__ for kind in raised}


def test_the_keys_of_dvcx_yaml_are_those_of_the_code() -> None:
    page = (DOCS / "dvcx-yaml.md").read_text()
    told = {part: re.findall(r"^\| `(\w+)` \|", page.partition(f"## {part}")[2].partition("\n## ")[0], re.MULTILINE)
            for part in ("A stage", "An output")}  # fmt: skip
    assert tuple(told["A stage"]) == schema.STAGE_KEYS
    assert tuple(told["An output"]) == schema.OUT_KEYS


def test_every_decision_has_its_parts() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        parts = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert parts == ["Context", "Choice", "Alternatives", "Consequences"], page.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_file_to_write_is_called_by_its_name(page: Path) -> None:
    text: list[str] = []
    fenced = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced, text = not fenced, []
        elif found := re.fullmatch(r"<!-- file: (.*) -->", line):
            # The comment is not seen by readers.
            assert any(f"`{found[1]}`" in before for before in text), f"{name_of(page)}: {found[1]}"
        elif not fenced:
            text.append(line)


def test_the_map_shows_every_file_of_the_lower_rooms() -> None:
    page = (DOCS / "architecture.md").read_text()
    for room in ("core", "core/pipeline", "io"):
        names = {path.stem for path in (ROOT / "dvcx" / room).iterdir() if not path.name.startswith("_")}
        assert {name for name in names if not re.search(rf"\b{name}\b", page)} == set(), room


def test_the_picture_is_of_this_program() -> None:
    tree = ElementTree.parse(DOCS / "images" / "session.svg")
    text = "\n".join("".join(node.itertext()) for node in tree.iter() if node.tag.endswith("text")).replace("\xa0", " ")
    told = re.findall(r"(?:^|&& )dvcx (\w+)", text, re.MULTILINE)
    assert told and set(told) <= {*VERBS, *ALIASES}


# One way to test, named the same everywhere


def test_the_commands_of_the_readme_are_those_that_run() -> None:
    readme = (ROOT / "README.md").read_text()
    demo, tests = re.findall(r"^```sh\n(.+)\n```$", readme, re.MULTILINE)
    assert "dvcx demo" in demo and "pytest" in tests
    assert f"\n{tests}\n" in (ROOT / ".ci" / "run").read_text()
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert f"run: {demo}\n" in workflow and "run: bash .ci/run\n" in workflow


def test_the_workflow_covers_what_is_promised() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert re.findall(r'"(3\.\d+)"', workflow) == promised
    assert "ubuntu-latest" in workflow and "macos-latest" in workflow


def test_nothing_of_this_machine_is_told() -> None:
    private = re.compile(r"/(?:home|Users|root)/(?!ada\b)\w|" + re.escape(str(ROOT)))
    for path in [*PAGES, *DOCS.rglob("*.svg"), ROOT / "mkdocs.yml", ROOT / ".ci" / "run"]:
        found = private.search(path.read_text())
        assert not found, f"{name_of(path)} holds {found and found[0]}"
