"""Pipelines under kill -9 and bad input: the lock claims only what is there; what is wrong is named, with place and hint."""

from __future__ import annotations

import contextlib
import inspect
import os
import random
import signal
import time
from pathlib import Path

import pytest

from dvcx.errors import DvcxError
from dvcx.ops.records import load
from dvcx.ops.repro import repro
from dvcx.project import open_project
from tests.faults.test_hostile import _is_cheap, _measured
from tests.faults.world import World, new_world

# kill -9 at random points

STAGES = """\
stages:
  upper:
    cmd: sleep 0.05; tr a-z A-Z < in.txt > upper.txt
    deps: [in.txt]
    outs: [upper.txt]
  parts:
    cmd: mkdir parts; for n in 1 2 3 4 5 6; do { echo $n; cat in.txt; } > parts/$n; sleep 0.01; done
    deps: [in.txt]
    outs: [parts]
  joined:
    cmd: cat parts/1 parts/2 upper.txt > joined.txt; sleep 0.03; wc -c < joined.txt | tr -d ' ' > size.txt
    deps: [parts, upper.txt]
    outs:
    - joined.txt
    - size.txt: {cache: false}
  last:
    cmd: sed s/^/=/ joined.txt > last.txt; sleep 0.02; echo end >> last.txt
    deps: [joined.txt]
    outs: [last.txt]
"""
AT_ONCE = ("--jobs", "2") if "jobs" in inspect.signature(repro).parameters else ()


def expected(text: str) -> dict[str, bytes]:
    """Every output of STAGES for the input `text`."""
    parts = {f"parts/{number}": f"{number}\n{text}" for number in range(1, 7)}
    joined = parts["parts/1"] + parts["parts/2"] + text.upper()
    last = "".join(f"={line}\n" for line in joined.splitlines()) + "end\n"
    found = {"upper.txt": text.upper(), **parts, "joined.txt": joined, "size.txt": f"{len(joined)}\n", "last.txt": last}
    return {path: told.encode() for path, told in found.items()}


@pytest.mark.parametrize("rounds", [pytest.param(4, id="few"), pytest.param(100, id="all", marks=pytest.mark.nightly)])
def test_killed_at_random_points(tmp_path: Path, rounds: int) -> None:
    """Driver, stage or both die: the lock claims nothing the cache cannot give, and the next repro comes to the same bytes."""
    chance = random.Random(rounds)
    world = new_world(tmp_path / "world")
    world.put("in.txt", "begin\n")
    world.stage_file(STAGES)
    world.ok("add", "in.txt")
    began = time.monotonic()
    world.ok("repro", *AT_ONCE)
    whole = time.monotonic() - began
    hits = 0
    for number in range(rounds):
        # Sometimes an input that was seen before, so that a restore is what is killed.
        text = f"round {chance.choice([number, max(0, number - 2)])}\n"
        world.put("in.txt", text)
        hits += _kill(world, chance.uniform(0.1, 1.1) * whole, chance.choice(["driver", "stage", "both"]))
        # A git that dvcx started may be the one that is hit: its own lock file is in the way afterwards.
        (world.root / ".git/index.lock").unlink(missing_ok=True)
        _claims_what_is_there(world)
        world.run("status")
        world.ok("repro", *AT_ONCE)
        assert {path: world.get(path) for path in expected(text)} == expected(text), f"round {number}"
        world.clean()
        world.ok("check")
        # Results are written without the cache's lock: what a killed writer left is taken away when it is a minute old.
        # What a killed run left in its own directory goes with its record.
        passed = ("/cache/actions/", "/cache/requests/", "/state/runs/")
        left = [path for path in world.temporaries() if not any(part in path for part in passed)]
        assert left == [], f"round {number}"
    assert hits, "nothing was ever running when it was to be killed"


def _claims_what_is_there(world: World) -> None:
    """What the lock names, and what was finished since it was written, is in the cache."""
    held = world.clean()
    for address, entry in load(open_project(str(world.root))).lock.items():
        for path, content in entry.outs.items():
            assert content.id in held, f"{address} claims {path}: {content.id} is nowhere"


def _kill(world: World, after: float, what: str) -> bool:
    """Start a repro and kill the driver, its commands or both `after` so many seconds; whether it was still running then."""
    process = world.start("repro", *AT_ONCE)
    time.sleep(after)
    runs = process.poll() is None
    commands = _below(process.pid)
    if what in ("driver", "both"):
        process.send_signal(signal.SIGKILL)
    # Commands that outlive a driver would go on writing; a machine that fails takes both.
    for pid in commands if what != "driver" else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=30) if what == "stage" else (b"", b"")
    process.wait(30)
    if process.stdout is not None:
        process.stdout.close()
    assert b"Traceback" not in out, out.decode()
    # A driver's orphans are left to the next driver.
    for pid in commands if what != "driver" else ():
        _ended(pid)
    return runs


def _below(pid: int) -> list[int]:
    """The processes that `pid` started, and those they started."""
    found = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *_below(int(child))]
    return found


def _ended(pid: int) -> None:
    """Wait for a process that nobody waits for any more: none of these commands takes long."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not end")


def test_two_at_once_run_each_stage_once(world: World) -> None:
    """Item 21 for a whole pipeline: two `repro` at the same time end well, and every command has run once."""
    command = "echo run >> ran-{n}; sleep 0.1; cp in.txt out{n}"
    stages = [f"  s{n}:\n    cmd: {command.format(n=n)}\n    deps: [in.txt]\n    outs: [out{n}]\n" for n in range(4)]
    world.stage_file("stages:\n" + "".join(stages))
    world.put("in.txt", "x\n")
    both = [world.start("repro", *AT_ONCE) for _ in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out.decode()
    assert [world.get(f"ran-{n}") for n in range(4)] == [b"run\n"] * 4
    world.clean()
    world.ok("check")


# Bad input: dvcx.yaml, the code, and what the answer says

BAD: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "typo of a stage's key": (
        "stages:\n  one:\n    cmd: a\n    dep: [x]\n",
        2,
        ("dvcx.yaml:4:5", "one", "did you mean 'deps'?"),
    ),
    "typo at the top": ("stage:\n  one: {cmd: a}\n", 2, ("dvcx.yaml:1:1", "did you mean 'stages'?")),
    "typo of an output's key": (
        "stages:\n  one:\n    cmd: a\n    outs:\n    - x: {cahce: false}\n",
        2,
        ("dvcx.yaml:5:", "one", "did you mean 'cache'?"),
    ),
    "no command": ("stages:\n  one:\n    deps: [x]\n", 2, ("dvcx.yaml:2:", "one", "cmd")),
    "a bad template": (
        "vars: [{a: 1}]\nstages:\n  one:\n    cmd: echo ${a b}\n",
        2,
        ("dvcx.yaml:4:", "one"),
    ),
    "a template that does not end": (
        "vars: [{a: 1}]\nstages:\n  one:\n    cmd: echo ${a\n",
        2,
        ("dvcx.yaml:4:", "one"),
    ),
    "an undefined variable": (
        "vars: [{size: 1}]\nstages:\n  one:\n    cmd: echo ${sise}\n",
        2,
        ("dvcx.yaml:4:", "one", "sise", "did you mean"),
    ),
    "an output twice in one stage": (
        "stages:\n  one:\n    cmd: a\n    outs: [x, x]\n",
        2,
        ("dvcx.yaml:4:15", "one", "'x'", "4:12"),
    ),
    "an output of two stages": (
        "stages:\n  one:\n    cmd: a\n    outs: [x]\n  two:\n    cmd: b\n    outs: [x]\n",
        11,
        ("dvcx.yaml:4:12", "dvcx.yaml:7:12", "one", "two", "'x'"),
    ),
    "an output inside another": (
        "stages:\n  one:\n    cmd: a\n    outs: [x]\n  two:\n    cmd: b\n    outs: [x/y]\n",
        11,
        ("dvcx.yaml:4:12", "dvcx.yaml:7:12", "one", "two", "'x/y'"),
    ),
    "a cycle": (
        "stages:\n  one:\n    cmd: a\n    deps: [y]\n    outs: [x]\n  two:\n    cmd: b\n    deps: [x]\n    outs: [y]\n",
        11,
        ("dvcx.yaml:4:12", "dvcx.yaml:9:12", "one → two → one"),
    ),
    "a missing file of vars": ("vars: [none.yaml]\nstages:\n  one:\n    cmd: a\n", 2, ("dvcx.yaml:1:8", "none.yaml")),
    "a broken file of vars": ("vars: [broken.yaml]\nstages:\n  one:\n    cmd: a\n", 4, ("broken.yaml:2:1",)),
    "a broken file of params": ("stages:\n  one:\n    cmd: a\n    params:\n    - broken.yaml: [a]\n", 4, ("broken.yaml:2:1",)),
    "a path outside": ("stages:\n  one:\n    cmd: a\n    outs: [../x]\n", 9, ("dvcx.yaml:4:", "one", "../x")),
    "no YAML": ("stages: [", 4, ("dvcx.yaml:2:1",)),
    "a tab": ("stages:\n\tone: {cmd: a}\n", 4, ("dvcx.yaml:2:1",)),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = new_world(tmp_path_factory.mktemp("bare"))
    world.put("broken.yaml", "a: [1\n")
    return world


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_place_the_stage_and_the_repair(bare: World, case: str) -> None:
    text, code, says = BAD[case]
    bare.stage_file(text)
    with pytest.raises(DvcxError) as caught:
        repro(open_project(str(bare.root)), dry_run=True)
    error = caught.value
    told = f"{error.message}\n{error.hint}"
    assert error.exit_code == code, told
    assert error.hint, told
    for words in says:
        assert words in told, f"{words!r} is not in:\n{told}"


def test_a_missing_file_of_params_is_named_with_its_stage(bare: World) -> None:
    bare.stage_file("stages:\n  one:\n    cmd: a\n    params:\n    - none.yaml: [a]\n")
    (turn,) = repro(open_project(str(bare.root))).runs
    assert turn.how == "failed" and "stage 'one': none.yaml: is missing" in turn.error and "\n" in turn.error


# Bombs: within a second and 200 MB

_DOUBLED = "".join(f"  v{n}: ${{v{n - 1}}}${{v{n - 1}}}\n" for n in range(1, 40))
_AXIS = "[" + ",".join(map(str, range(2_000))) + "]"
BOMBS: dict[str, str] = {
    "aliases in vars": "vars:\n- a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"  b{n}: &b{n} [{','.join([f'*b{n - 1}' if n else '*a'] * 9)}]\n" for n in range(9))
    + "stages: {one: {cmd: 'echo ${b8}'}}\n",
    "variables that double": "vars:\n- v0: xxxxxxxxxx\n" + _DOUBLED + "stages:\n  one:\n    cmd: echo ${v39}\n",
    "a matrix": f"stages:\n  one:\n    matrix: {{a: {_AXIS}, b: {_AXIS}, c: {_AXIS}}}\n    cmd: echo ${{item.a}}\n",
    "a foreach": "stages:\n  one:\n    foreach: [" + "1," * 500_000 + "1]\n    do: {cmd: 'echo ${item}'}\n",
    "braces": "vars: [{a: 1}]\nstages:\n  one:\n    cmd: '" + "${" * 200_000 + "'\n",
    "dots": "vars: [{a: 1}]\nstages:\n  one:\n    cmd: '${" + "a." * 200_000 + "a}'\n",
    "depth": "vars: [{a: " + "[" * 100_000 + "]" * 100_000 + "}]\nstages: {one: {cmd: a}}\n",
    "long results": "vars: [{a: '" + "x" * 50_000 + "'}]\nstages:\n  one:\n    cmd: '" + "${a}" * 100_000 + "'\n",
}


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_end_at_once(bare: World, case: str) -> None:
    """Item 39 for what templating makes of YAML."""
    bare.stage_file(BOMBS[case])
    code, told, cost = _measured(bare, "status")
    assert code in (2, 4, 9), f"exit {code}: {told}"
    assert "hint:" in told and "dvcx.yaml" in told, told
    assert _is_cheap(cost), cost
