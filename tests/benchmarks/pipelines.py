"""What is measured on pipelines: chains against DVC, many independent stages, stages side by side, status, remembered parsing."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.bench import Bench

PROGRAM = (sys.executable, "-m", "dvcx")
PARSE = """
import os, sys, time
from dvcx.io import files
from dvcx.ops import records
from dvcx.project import open_project
project = open_project(os.getcwd())
with files.Reader(project.root) as reader:
    data = reader.read("dvcx.yaml", records.MAX_PIPELINE)
    began = time.perf_counter()
    found = records._pipeline(project, data, "dvcx.yaml", "", reader.read, {})
    spent = time.perf_counter() - began
assert len(found.stages) == int(sys.argv[1])
open("parsed", "w").write(str(spent))
"""


def pipelines(bench: Bench, number: int, stages: int) -> None:
    """One round: the chain against DVC, and what is a figure of its own."""
    chain(bench, number, stages)
    independent(bench, number, 1_000)
    unchanged(bench, number, 1_000)
    asleep(bench, number)


def chain(bench: Bench, number: int, count: int) -> None:
    """A chain of stages that each copy a small file: first, and when nothing changed."""
    stages = [(f"s{at}", f"cp f{at} f{at + 1}", [f"f{at}"], [f"f{at + 1}"]) for at in range(count)]
    for like in ["dvcx", "dvc"] if bench.dvc else ["dvcx"]:
        where = bench.project(f"chain-{like}{number}", like=like)
        write(where / f"{like}.yaml", stages)
        (where / "f0").write_text("hello\n")
        call = bench.ours if like == "dvcx" else bench.theirs
        call(bench.row(f"chain of {count} stages: first repro", 1 / 10), where, "repro")
        call(bench.row(f"chain of {count} stages: nothing to do", 1 / 8), where, "repro")
        shutil.rmtree(where)


def independent(bench: Bench, number: int, count: int) -> None:
    """Stages of `true` that need nothing of one another, two at a time: what a stage costs over the command's own process."""
    where = bench.project(f"true{number}")
    write(where / "dvcx.yaml", [(f"s{at}", "'true'", ["in"], []) for at in range(count)])
    (where / "in").write_text("hello\n")
    seconds, _ = bench.run(where, *PROGRAM, "repro", "-j", "2")
    bench.fact(f"{count:,} stages of `true`, -j 2: a stage (round {number + 1})", seconds / count * 1000, 15, "ms")
    shutil.rmtree(where)


def asleep(bench: Bench, number: int) -> None:
    """Stages that only sleep, all at once."""
    where = bench.project(f"asleep{number}")
    write(where / "dvcx.yaml", [(f"s{at}", "sleep 1", ["in"], []) for at in range(8)])
    (where / "in").write_text("hello\n")
    seconds, _ = bench.run(where, *PROGRAM, "repro", "-j", "8")
    bench.fact(f"8 stages of `sleep 1`, -j 8 (round {number + 1})", seconds, 1.6, "s")
    shutil.rmtree(where)


def unchanged(bench: Bench, number: int, count: int) -> None:
    """`status` where every stage is fresh, over `status` where there is nothing; and what remembering a parse is worth."""
    empty, where = bench.project(f"empty{number}"), bench.project(f"fresh{number}")
    stages = [(f"s{at}", f"echo {at} > out{at}", ["in"], [f"out{at}"]) for at in range(count)]
    write(where / "dvcx.yaml", stages)
    (where / "in").write_text("hello\n")
    bench.run(where, *PROGRAM, "repro", "-j", "2")
    bench.run(where, *PROGRAM, "status")
    both = [(bench.run(where, *PROGRAM, "status")[0], bench.run(empty, *PROGRAM, "status")[0]) for _ in range(5)]
    over = statistics.median(full - bare for full, bare in both)
    bench.fact(f"status of {count:,} unchanged stages, over start-up (round {number + 1})", over, 0.5, "s")
    bench.run(where, sys.executable, "-c", PARSE, str(count))
    parsed = float((where / "parsed").read_text()) * 1000
    bench.fact(f"parsing {count:,} stages as last time (round {number + 1})", parsed, 30, "ms")
    shutil.rmtree(where)


def write(path: Path, stages: Iterable[tuple[str, str, list[str], list[str]]]) -> None:
    """Write a pipeline of stages: name, command, dependencies, outputs."""
    lines = ["stages:"]
    for name, cmd, deps, outs in stages:
        lines += [f"  {name}:", f"    cmd: {cmd}", f"    deps: [{', '.join(deps)}]"]
        lines += [f"    outs: [{', '.join(outs)}]"] if outs else []
    path.write_text("\n".join(lines) + "\n")
