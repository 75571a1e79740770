"""Measures dvcx against DVC and against bare loops on the same data, in turn, in one run; prints a table of ratios.

    python -m tests.benchmarks [--dvc PATH_TO_DVC] [--rounds N] [--files N] [--gib N] [--write docs/benchmarks.md]

Ratios are what counts: machines are noisy, so both tools run in every round and the median of each is taken. `--only` takes
parts, separated by commas: files, large, chain (what is measured by default), pipelines (many stages), s3 (SeaweedFS and
`rclone serve s3`, against DVC and `rclone copy`), chunks (what edits of large files send), memory (pushing and pulling
`--memory-gib`), scale (a million files).
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench import Bench, floors, make_files
from tests.benchmarks.pipelines import pipelines
from tests.benchmarks.remote import SERVERS, edited_files, large_transfers, object_stores
from tests.benchmarks.scale import million

PARTS = ("files", "large", "chain", "pipelines", "s3", "chunks", "memory", "scale")


def main() -> None:
    """Measure everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dvc", default=shutil.which("dvc") or "", help="the dvc program; without it only dvcx is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--gib", type=float, default=2.0, help="size of the one large file")
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--only", default="files,large,chain", help=", ".join(PARTS))
    parser.add_argument("--memory-gib", type=float, default=10.0, help="size of the file of the part `memory`")
    parser.add_argument("--servers", default=",".join(SERVERS), help=f"of the part `s3`: {', '.join(SERVERS)}")
    parser.add_argument("--million", type=int, default=1_000_000, help="files of the part `scale`")
    parser.add_argument("--write", default="", help="write the table to this Markdown file")
    parser.add_argument("--directory", default=None, help="where to work (default: a temporary directory)")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="dvcx-bench-", dir=options.directory) as name:
        bench = Bench(Path(name), options.dvc)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            if "files" in parts:
                many_files(bench, number, options.files)
            if "large" in parts:
                one_large_file(bench, number, int(options.gib * (1 << 30)))
            if "chain" in parts:
                chain(bench, number, options.stages)
            if "pipelines" in parts:
                pipelines(bench, number, options.stages)
            if "s3" in parts:
                object_stores(bench, number, options.files, options.servers.split(","))
        if "chunks" in parts:
            edited_files(bench)
        if "memory" in parts:
            large_transfers(bench, int(options.memory_gib * (1 << 30)))
        if "scale" in parts:
            million(bench, options.million)
        if "files" in parts:
            start_up(bench)
        table = render(bench, options)
    print(table)
    if options.write:
        Path(options.write).write_text(page(table, options))


def many_files(bench: Bench, number: int, count: int) -> None:
    """Many files of 4 KiB in 100 directories, the main verbs one after another, warm cache."""
    base = bench.directory / f"files{number}"
    base.mkdir()
    make_files(base / "data", count)
    contenders = ["dvcx", "dvc"] if bench.dvc else ["dvcx"]
    if number % 2:
        contenders.reverse()
    label = f"{count:,} files"
    for like in contenders:
        where = bench.project(f"files{number}/{like}", like=like)
        shutil.copytree(base / "data", where / "data")
        remote, call = base / f"remote-{like}", bench.ours if like == "dvcx" else bench.theirs
        read_all(where / "data")
        call(bench.row(f"add {label}", 1 / 5, "read every file"), where, "add", "data")
        time.sleep(0.1)
        call(bench.row("status, clean", 1 / 4, "stat every file"), where, "status")
        (where / "data" / "d000" / "new.bin").write_bytes(b"one more")
        call(bench.row("add after one new file", 1 / 5, "stat every file"), where, "add", "data")
        bench.away(where / "data")
        call(bench.row("checkout into an empty workspace", 1 / 4, "write every file"), where, "checkout")
        bench.run(
            where, *((bench.dvc,) if like == "dvc" else (sys.executable, "-m", "dvcx")), "remote", "add", "-d", "r", str(remote)
        )
        call(bench.row("push to a directory", 1 / 4, "copy every file"), where, "push")
        call(bench.row("push again, nothing new", 1 / 10, "stat every file"), where, "push")
        bench.away(where / (".dvcx/cache" if like == "dvcx" else ".dvc/cache"))
        call(bench.row("fetch", 1 / 5, "copy every file"), where, "fetch")
    loops = {
        "read every file": lambda: read_all(base / "data"),
        "stat every file": lambda: stat_all(base / "data"),
        "write every file": lambda: write_all(base / "floor", count),
        "copy every file": lambda: copy_all(base / "data", base / "copy"),
    }
    floors(bench, loops)


def one_large_file(bench: Bench, number: int, size: int) -> None:
    """One large file, hard links on both sides, so that neither has to copy it."""
    base = bench.directory / f"large{number}"
    base.mkdir()
    contenders = ["dvcx", "dvc"] if bench.dvc else ["dvcx"]
    row = bench.row(f"add one file of {size / (1 << 30):g} GiB, hard links", 1 / 2, "read the file")
    block = os.urandom(1 << 20)
    for like in contenders:
        where = bench.project(f"large{number}/{like}", "hardlink,copy", like=like)
        with (where / "large.bin").open("wb") as file:
            for at in range(size >> 20):
                file.write(at.to_bytes(8, "little") + block[8:])
        read_file(where / "large.bin")
        (bench.ours if like == "dvcx" else bench.theirs)(row, where, "add", "large.bin")
        if like == "dvcx":
            floors(bench, {"read the file": lambda path=where / "large.bin": read_file(path)})
        shutil.rmtree(where)
    shutil.rmtree(base)


def chain(bench: Bench, number: int, count: int) -> None:
    """A chain of stages that each copy a small file."""
    lines = ["stages:"]
    for at in range(count):
        lines += [f"  s{at}:", f"    cmd: cp f{at} f{at + 1}", f"    deps: [f{at}]", f"    outs: [f{at + 1}]"]
    contenders = ["dvcx", "dvc"] if bench.dvc else ["dvcx"]
    (bench.directory / f"chain{number}").mkdir()
    for like in contenders:
        where = bench.project(f"chain{number}/{like}", like=like)
        (where / f"{like}.yaml").write_text("\n".join(lines) + "\n")
        (where / "f0").write_text("hello\n")
        call = bench.ours if like == "dvcx" else bench.theirs
        call(bench.row(f"{count} stages of cp: first repro", 1 / 10, "run the commands"), where, "repro")
        call(bench.row(f"{count} stages of cp: nothing to do", 1 / 6), where, "repro")
    where = bench.directory / f"chain{number}"
    floors(bench, {"run the commands": lambda: run_commands(where, count)})
    shutil.rmtree(where)


def start_up(bench: Bench) -> None:
    """`status` in a small project beside the import of typer."""
    where = bench.project("small")
    (where / "data.csv").write_text("a,b\n1,2\n")
    bench.run(where, sys.executable, "-m", "dvcx", "add", "data.csv")
    row = bench.row("status in a small project", 1.4, "python -c 'import typer'")
    for _ in range(11):
        bench.ours(row, where, "status")
        row.floor.append(bench.run(where, sys.executable, "-c", "import typer")[0])


def read_all(where: Path) -> None:
    for directory in os.scandir(where):
        for entry in os.scandir(directory.path):
            fd = os.open(entry.path, os.O_RDONLY)
            os.read(fd, 1 << 20)
            os.close(fd)


def stat_all(where: Path) -> None:
    for directory in os.scandir(where):
        for entry in os.scandir(directory.path):
            entry.stat(follow_symlinks=False)


def write_all(where: Path, count: int) -> None:
    data = os.urandom(4096)
    for at in range(100):
        directory = where / f"d{at:03d}"
        directory.mkdir(parents=True)
        for number in range(count // 100):
            fd = os.open(f"{directory}/f{number:05d}.bin", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, data)
            os.close(fd)


def copy_all(source: Path, target: Path) -> None:
    for directory in os.scandir(source):
        (target / directory.name).mkdir(parents=True)
        for entry in os.scandir(directory.path):
            shutil.copyfile(entry.path, target / directory.name / entry.name)


def read_file(path: Path) -> None:
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def run_commands(where: Path, count: int) -> None:
    (where / "f0").write_text("hello\n")
    for at in range(count):
        subprocess.run(["/bin/sh", "-c", f"cp f{at} f{at + 1}"], cwd=where, check=True)


def render(bench: Bench, options: argparse.Namespace) -> str:
    """The table, in Markdown."""
    lines = [
        "| what | DVC s | dvcx s | ratio | goal | bare loop | its s | peak MB |",
        "|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in bench.rows.values():
        ours = statistics.median(row.dvcx)
        against = row.dvc if row.goal < 1 else row.floor
        theirs = f"{statistics.median(row.dvc):.2f}" if row.dvc else ""
        floor = f"{statistics.median(row.floor):.2f}" if row.floor else ""
        ratio = ours / statistics.median(against) if against else 0.0
        shown = f"{ratio:.2f}" if row.goal >= 1 else f"1/{1 / ratio:.1f}" if ratio else ""
        goal = f"≤ {row.goal:g}" if row.goal >= 1 else f"≤ 1/{1 / row.goal:g}"
        missed = " **missed**" if ratio > row.goal else ""
        lines.append(
            f"| {row.name} | {theirs} | {ours:.2f} | {shown}{missed} | {goal} | {row.floor_name} | {floor} | {row.memory:.0f} |"
        )
    if not bench.rows:
        lines = []
    if bench.facts:
        lines += [*([""] if lines else []), "| what | measured | goal |", "|---|---:|---:|"]
    for fact in bench.facts:
        missed = " **missed**" if fact.goal and fact.value > fact.goal else ""
        goal = f"≤ {fact.goal:g} {fact.unit}" if fact.goal else ""
        lines.append(f"| {fact.name} | {fact.value:.3g} {fact.unit}{missed} | {goal} |")
    return "\n".join(lines)


def page(table: str, options: argparse.Namespace) -> str:
    """docs/benchmarks.md."""
    version = ""
    if options.dvc:
        version = subprocess.run([options.dvc, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"""# Benchmarks

Written by `python -m tests.benchmarks --dvc PATH_TO_DVC --write docs/benchmarks.md` on {today}: {os.cpu_count()} cores,
{platform.system()} {platform.machine()}, CPython {platform.python_version()}, DVC {version} with hard links, the median of
{options.rounds} rounds in which both tools ran in turn on the same data. Whole commands, start-up included. Machines are noisy:
read the ratios, not the seconds. The bare loop beside each row does the least any tool would have to do, in one thread of plain
Python, without digests, records or durability; `dvcx` can be faster than a loop where it uses both cores or writes fewer files.

{table}

Peak memory is that of the largest single `dvcx` process. The last row compares with the bare loop instead of DVC.
"""


if __name__ == "__main__":
    main()
