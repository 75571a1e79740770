"""Makes session.svg, the picture in the README: a real session in a real terminal. Run it: python docs/images/session.py"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from dvcx.ops.demo import FILES

ROOT = Path(__file__).parents[2]
WIDTH = 96
COMMANDS = (
    "dvcx add data-input.csv",
    "dvcx run -n extract -d data-input.csv -d feature-extractor.py -o data-output.csv \\\n    python feature-extractor.py",
    "dvcx run -n train -d data-output.csv -d train.py -p train.lr -o model.json \\\n    -M metrics.json python train.py",
    "git commit -qam 'first version' && dvcx push",
    "sed -i.old 's/lr: 0.1/lr: 0.5/' params.yaml",
    "dvcx status",
    "dvcx repro",
)
PREPARE = "git init -q && git add *.py && dvcx init -q && mkdir ../store && dvcx remote add -qd origin ../store"
COLOURS = [(224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194)]
THEME = TerminalTheme(
    (30, 32, 38), (214, 216, 222), [(60, 64, 72), *COLOURS, (214, 216, 222)], [(110, 116, 128), *COLOURS, (255, 255, 255)]
)
FORMAT = """\
<svg class="rich-terminal" viewBox="0 30 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>A dvcx session in the terminal</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: {char_height}px;
  line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect fill="#1e2026" y="30" width="{width}" height="{height}" rx="10"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Play the session and write the picture beside this file."""
    with tempfile.TemporaryDirectory() as scratch:
        text = _play(Path(scratch))
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(text, end="\n ")  # the picture ends at the middle of the last line
    svg = console.export_svg(title="", theme=THEME, code_format=FORMAT, unique_id="session")
    svg = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.1f}", svg)
    svg = "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"
    Path(__file__).with_suffix(".svg").write_text(svg)


def _play(scratch: Path) -> Text:
    tools, project = scratch / "tools", scratch / "prices"
    tools.mkdir()
    project.mkdir()
    for name, command in (("dvcx", f'exec "{sys.executable}" -m dvcx "$@"'), ("python", f'exec "{sys.executable}" "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{command}\n")
        (tools / name).chmod(0o755)
    for name, content in FILES.items():
        (project / name).write_text(content)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVCX_", "NO_COLOR"))}
    environment.update(PATH=f"{tools}:{os.environ['PATH']}", PYTHONPATH=str(ROOT), TERM="xterm-256color", HOME=str(scratch))
    for role in ("AUTHOR", "COMMITTER"):
        environment.update({f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"})
    subprocess.run(["sh", "-c", PREPARE], cwd=project, env=environment, check=True)
    text = Text()
    for command in COMMANDS:
        text.append("$ ", style="bold green").append(command + "\n", style="bold")
        printed = _in_terminal(command, project, environment)
        text.append_text(Text.from_ansi(printed)).append("\n\n" if printed else "")
    text.rstrip()
    return text


def _in_terminal(command: str, directory: Path, environment: dict[str, str]) -> str:
    """What the command prints when a person looks at it, colours and all."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(["sh", "-c", command], cwd=directory, env=environment, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    printed = b""
    while True:
        try:
            piece = os.read(outer, 1 << 16)
        except OSError:  # what Linux says when the other side is closed
            break
        if not piece:
            break
        printed += piece
    os.close(outer)
    if process.wait():
        raise SystemExit(f"$ {command}\n{printed.decode()}")
    return re.sub(r"\r", "", printed.decode()).rstrip("\n")


if __name__ == "__main__":
    main()
