"""demo: a small project in a new directory, taken through everything by real commands."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from dvcx.errors import Conflict, NotFound, StageFailed, disk_refused, display
from dvcx.events import Emit, Noted, ignore
from dvcx.io import git
from dvcx.io.runners.local import run_captured
from dvcx.project import command_environment

PROJECT, COLLEAGUE = "project", "colleague"


@dataclass(frozen=True, slots=True)
class DemoStep:
    """One command: why it runs ("" when the step before said it), where (relative to the demo), what it printed."""

    text: str
    directory: str
    command: str
    output: str


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's directory (absolute), every step, and commands to try next in `directory`/project."""

    directory: str
    steps: tuple[DemoStep, ...]
    next: tuple[str, ...]


def demo(directory: str, *, emit: Emit = ignore) -> Demo:
    """Make a project, a remote and a colleague's clone below `directory` (absolute, new or empty).

    Each line is emitted as `Noted` when it is due: `# why`, `$ command`, then what the command printed. Raises `Conflict`
    when something is in the directory, `NotFound` without git or Python, `StageFailed` when a command fails.
    """
    _make(directory)
    environment = _environment()
    python = _python(directory, environment)
    steps: list[DemoStep] = []
    here = ""
    for where, text, command in _script(python, own_name=_knows_me(directory, environment)):
        if text:
            emit(Noted(""))
            emit(Noted(f"# {text}"))
        if where != here:
            emit(Noted(f"$ cd {_from(here, where)}"))
            here = where
        emit(Noted(f"$ {command}"))
        code, output = run_captured(_PRELUDE + command, directory=f"{directory}/{where}", environment=environment)
        for line in output.splitlines():
            emit(Noted(line))
        if code:
            last = output.strip().rpartition("\n")[2]
            raise StageFailed(
                f"the demo's command exited with {code}: {display(command)}" + (f": {display(last)}" if last else ""),
                f"look around in {display(directory)}, or delete it and try again",
            )
        steps.append(DemoStep(text, where, command, output))
    return Demo(directory, tuple(steps), _NEXT)


def _make(directory: str) -> None:
    """The directory with the files a person would have written before the first command."""
    try:
        os.makedirs(directory, exist_ok=True)
        if os.listdir(directory):
            raise Conflict(f"{display(directory)} exists and is not empty", "name a new directory: dvcx demo DIRECTORY")
        os.mkdir(f"{directory}/{PROJECT}")
        for name, text in FILES.items():
            with open(f"{directory}/{PROJECT}/{name}", "x", encoding="utf-8", newline="") as file:
                file.write(text)
    except (FileExistsError, NotADirectoryError):
        raise Conflict(f"{display(directory)} is not a directory", "name a new directory: dvcx demo DIRECTORY") from None
    except OSError as error:
        raise disk_refused(error, "making the demo", directory) from None


def _environment() -> dict[str, str]:
    """Our environment without what would lead git or dvcx elsewhere: a hook's repository, signing, a cache in another place."""
    environment = {
        name: value
        for name, value in command_environment().items()
        if not name.startswith(("DVCX_", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX", "GIT_OBJECT", "GIT_COMMON", "GIT_CONFIG_"))
        or name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")
    }
    settings = {
        "init.defaultBranch": "main",
        "commit.gpgSign": "false",
        "core.hooksPath": os.devnull,
        "protocol.file.allow": "always",
    }
    environment["GIT_CONFIG_COUNT"] = str(len(settings))
    for number, (key, value) in enumerate(settings.items()):
        environment[f"GIT_CONFIG_KEY_{number}"] = key
        environment[f"GIT_CONFIG_VALUE_{number}"] = value
    environment["GIT_TERMINAL_PROMPT"] = "0"
    environment["DVCX_CACHE_DIR"] = ".dvcx/cache"
    environment["DVCX_CORE_AUTOSTAGE"] = "true"
    return environment


def _python(directory: str, environment: Mapping[str, str]) -> str:
    """What a command line calls Python here. It is tried: a name on the PATH may be Python 2, or a shim for none."""
    for name in ("python", "python3", shlex.quote(sys.executable)):
        probe = f"{name} -c 'import sys; sys.exit(sys.version_info < (3, 8))'"
        if run_captured(probe, directory=directory, environment=environment)[0] == 0:
            return name
    raise NotFound("no python is on the PATH", "install Python, or activate its virtual environment")


def _knows_me(directory: str, environment: Mapping[str, str]) -> bool:
    """Whether git has a name to put on commits. Raises `NotFound` without git."""
    if not git.version():
        raise NotFound("there is no git program", "install git")
    return run_captured("git var GIT_COMMITTER_IDENT", directory=directory, environment=environment)[0] == 0


def _from(here: str, where: str) -> str:
    return where if not here else os.path.relpath(where or ".", here)


def _script(python: str, *, own_name: bool) -> list[tuple[str, str, str]]:
    """(directory, why, command) in order."""
    inputs, features, model = "data-input.csv", "data-output.csv", "model.json"
    extract = f"-d {inputs} -d feature-extractor.py -o {features} {python} feature-extractor.py"
    train = f"-d {features} -d train.py -p train.lr,train.epochs -o {model} -M metrics.json {python} train.py"
    identity = "git config user.name demo && git config user.email demo@example.org"
    steps = [
        (PROJECT, "A project: git keeps code and pointers, dvcx keeps data.", "git init --quiet"),
        *([] if own_name else [(PROJECT, "", identity)]),
        (PROJECT, "", "dvcx init"),
        (PROJECT, "Three days of prices. dvcx takes them; git gets a small pointer.", f"cat {inputs}"),
        (PROJECT, "", f"dvcx add {inputs}"),
        (PROJECT, "Code and parameters belong into git.", "git add feature-extractor.py train.py params.yaml"),
        (PROJECT, "A stage is a command with what it reads and writes.", f"dvcx run -n extract {extract}"),
        (PROJECT, "", f"cat {features}"),
        (PROJECT, "A second one trains a model on what the first wrote.", f"dvcx run -n train {train}"),
        (PROJECT, "A remote: here a directory, elsewhere s3://bucket/prefix.", "mkdir ../remote"),
        (PROJECT, "", "dvcx remote add -d origin ../remote"),
        (PROJECT, "", 'git commit --quiet -am "first version" && dvcx push'),
        (PROJECT, "Another parameter: only the stage that reads it runs.", f"printf '{_PARAMS_AFTER}' > params.yaml"),
        (PROJECT, "", "dvcx status"),
        (PROJECT, "", "dvcx repro"),
        (PROJECT, "", 'git commit --quiet -am "learn faster"'),
        (PROJECT, "One more day of prices: now both are stale.", f"echo '{_ROW}' >> {inputs}"),
        (PROJECT, "", "dvcx status"),
        (PROJECT, "", "dvcx repro"),
        (PROJECT, "", 'git commit --quiet -am "one more day" && dvcx push'),
        (PROJECT, "A remark in the script: the same features come out, so nothing after it runs.", _REMARK),
        (PROJECT, "", "dvcx repro"),
        (PROJECT, "", 'git commit --quiet -am "a remark"'),
        (PROJECT, "Back to the first version: data, features and model of that day.", "git checkout --quiet HEAD~3"),
        (PROJECT, "", f"dvcx checkout && cat {inputs} metrics.json"),
        (PROJECT, "And forward again.", "git checkout --quiet - && dvcx checkout"),
        ("", "A colleague, from nothing.", f"git clone --quiet {PROJECT} {COLLEAGUE}"),
        (COLLEAGUE, "", "dvcx pull"),
        (COLLEAGUE, "", "dvcx status"),
    ]
    return steps


# The shell that runs a step finds this very dvcx, wherever it is installed.
_PRELUDE = (
    "dvcx() { "
    + shlex.join(
        [
            sys.executable,
            "-P",
            "-c",
            f"import sys; sys.path.insert(0, {os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))!r}); "
            "from dvcx.__main__ import run; sys.exit(run())",
        ]
    )
    + ' "$@"; }\n'
)

_NEXT = (
    "dvcx dag",
    "dvcx diff HEAD~3 HEAD",
    "dvcx repro --dry-run   (after editing train.py)",
    "dvcx --help",
)

_ROW = '1605,2013-05-01,139.00,139.89,107.72,116.99,"1,298,950,000"'
_PARAMS_AFTER = r"train:\n  lr: 0.5\n  epochs: 200\n"
_REMARK = "echo '# Market Cap has commas inside.' >> feature-extractor.py"

FILES = {
    "data-input.csv": """\
,Date,Open,High,Low,Close,Market Cap
1608,2013-04-28,135.30,135.98,132.10,134.21,"1,500,520,000"
1607,2013-04-29,134.44,147.49,134.00,144.54,"1,491,160,000"
1606,2013-04-30,144.00,146.93,134.05,139.00,"1,597,780,000"
""",
    "feature-extractor.py": '''\
"""Turn prices into features: Open scaled to 0..1, Market Cap in billions."""

import csv

with open("data-input.csv", newline="") as file:
    rows = list(csv.DictReader(file))

opens = [float(row["Open"]) for row in rows]
low, high = min(opens), max(opens)

with open("data-output.csv", "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\\n")
    writer.writerow(["date", "open", "market_cap"])
    for row, value in zip(rows, opens):
        scaled = (value - low) / ((high - low) or 1)
        billions = int(row["Market Cap"].replace(",", "")) / 1e9
        writer.writerow([row["Date"], f"{scaled:.4f}", f"{billions:.4f}"])
''',
    "params.yaml": "train:\n  lr: 0.1\n  epochs: 200\n",
    "train.py": '''\
"""Fit market_cap = slope * open + offset by gradient descent."""

import csv
import json

with open("params.yaml") as file:
    params = dict(line.split(":") for line in file if line.startswith("  "))
params = {name.strip(): float(value) for name, value in params.items()}

with open("data-output.csv", newline="") as file:
    points = [(float(row["open"]), float(row["market_cap"])) for row in csv.DictReader(file)]


def errors():
    return [slope * x + offset - y for x, y in points]


slope = offset = 0.0
for _ in range(int(params["epochs"])):
    wrong = errors()
    slope -= params["lr"] * sum(error * x for error, (x, _) in zip(wrong, points)) / len(points)
    offset -= params["lr"] * sum(wrong) / len(points)

with open("model.json", "w") as file:
    json.dump({"slope": round(slope, 6), "offset": round(offset, 6)}, file)
    file.write("\\n")
with open("metrics.json", "w") as file:
    json.dump({"rows": len(points), "mse": round(sum(error**2 for error in errors()) / len(points), 6)}, file)
    file.write("\\n")
''',
}
