"""Amounts shared by processes: who comes first goes first, what fits goes together, and a dead owner holds nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dvcx.io.shares import Share, Ticket, take

THERE = {"gpu": 2.0, "mem": 100.0}


@contextlib.contextmanager
def several(directory: Path, *wants: Mapping[str, float]) -> Iterator[list[Ticket]]:
    with contextlib.ExitStack() as held:
        yield [held.enter_context(take(str(directory), Share(want, THERE), "dvcx repro")) for want in wants]


def going(directory: Path, *wants: Mapping[str, float]) -> list[bool]:
    with several(directory, *wants) as tickets:
        return [ticket.may_go() for ticket in tickets]


def test_what_fits_goes_and_nobody_overtakes(tmp_path: Path) -> None:
    assert going(tmp_path, {"gpu": 1}, {"gpu": 0.5, "mem": 60}, {"gpu": 0.5, "mem": 40}, {"mem": 1}) == [True, True, True, False]
    assert going(tmp_path, {"gpu": 1}, {"gpu": 1.5}, {"gpu": 1}, {"mem": 1}) == [True, False, False, True]
    assert going(tmp_path, {"licence": 1}, {"licence": 1}) == [True, False]
    assert os.listdir(tmp_path) == ["guard"]


def test_what_is_more_than_there_is_goes_alone(tmp_path: Path) -> None:
    assert going(tmp_path, {"gpu": 9}, {"gpu": 0.1}) == [True, False]
    assert going(tmp_path, {"gpu": 0.1}, {"gpu": 9}) == [True, False]


def test_the_turn_comes_when_earlier_ones_are_over(tmp_path: Path) -> None:
    with take(str(tmp_path), Share({"gpu": 2}, THERE), "dvcx repro"), contextlib.ExitStack() as later:
        second = later.enter_context(take(str(tmp_path), Share({"gpu": 1}, THERE), "dvcx repro"))
        assert not second.may_go()
        kept = later.pop_all()
    with kept:
        assert second.may_go()


def test_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    code = "import sys; from dvcx.io.shares import Share as S, take\n"
    code += "with take(sys.argv[1], S({'gpu': 2}, {}), ''): print(flush=1); input()"
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None and owner.stdout.readline()
    with several(tmp_path, {"gpu": 1}) as (ticket,):
        assert not ticket.may_go()
        owner.kill()
        owner.communicate()
        assert ticket.may_go()
