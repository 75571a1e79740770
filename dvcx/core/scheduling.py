"""Which stage may run now: a ready queue over the graph that honours cores, memory, devices, tokens and mutexes.

Pure bookkeeping: no threads and no clock in here; who calls from several threads holds a lock.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from dvcx.core.pipeline.execution import Execution
from dvcx.core.pipeline.schema import Stage

PASSED_OVER = 16
"""A stage that waits for much is passed over so often by later ones; then nothing starts before it."""


class Capacity(NamedTuple):
    """What there is to share: stages at a time (also the cores), memory in bytes, GPUs, tokens by name (1 when not named)."""

    jobs: int
    mem: int = 0
    gpu: float = 0.0
    tokens: Mapping[str, float] = {}


class Granted(NamedTuple):
    """A stage whose turn it is. `runs` tells whether it holds what its command needs; else it is only to be looked at."""

    stage: Stage
    runs: bool


class Queue:
    """The stages of one `repro`. Each is looked at when all it needs is over, and runs once what it needs is free.

    Looking costs nothing: a stage that is up to date never waits for resources. Stages come in the order given, but one that
    does not fit lets later ones by, `PASSED_OVER` times at most. Where they do not run `here`, only tokens and mutexes count.
    """

    def __init__(
        self, chosen: Sequence[Stage], upstream: Mapping[str, Iterable[str]], capacity: Capacity, *, here: bool = True
    ) -> None:
        self._capacity, self._here = capacity, here
        self._rank = {stage.address: number for number, stage in enumerate(chosen)}
        self._stages = tuple(chosen)
        self._needs = {stage.address: {need for need in upstream[stage.address] if need in self._rank} for stage in chosen}
        self._followers: dict[str, list[str]] = {stage.address: [] for stage in chosen}
        for name, needs in self._needs.items():
            for need in needs:
                self._followers[need].append(name)
        self._ready = [number for number, stage in enumerate(chosen) if not self._needs[stage.address]]
        self._wanting: list[int] = []
        self._passed: dict[int, int] = {}
        self._looking: set[str] = set()
        self._granted: dict[str, Execution] = {}
        self._used = Execution(0.0, 0, 0.0)
        self._tokens: dict[str, float] = {}
        self._mutexes: set[str] = set()
        self._alone = False
        self._stopped = False
        self._left = len(self._stages)

    @property
    def over(self) -> bool:
        """Whether nothing is under way and nothing will start any more."""
        if self._looking or self._granted:
            return False
        return self._stopped or not self._left

    @property
    def more(self) -> bool:
        """Whether another taker might get something now."""
        return bool(self._ready or self._wanting) and not self._stopped

    @property
    def left(self) -> int:
        """How many stages have not come to an end, those under way among them."""
        return self._left

    def take(self) -> Granted | None:
        """The next stage to run or to look at; None when there is none now."""
        if self._stopped:
            return None
        for at, number in enumerate(self._wanting):
            stage = self._stages[number]
            if self._fits(stage.execution):
                del self._wanting[at]
                self._pass_over(self._wanting[:at])
                self._grant(stage)
                return Granted(stage, True)
            if self._passed.get(number, 0) >= PASSED_OVER:
                break
        if not self._ready or len(self._looking) + len(self._granted) >= self._capacity.jobs:
            return None
        stage = self._stages[self._ready.pop(0)]
        self._looking.add(stage.address)
        return Granted(stage, False)

    def claim(self, address: str) -> bool:
        """The stage that was looked at has to run: whether it may at once. Else `take` gives it out when it fits."""
        number = self._rank[address]
        stage = self._stages[number]
        self._looking.discard(address)
        earlier = [other for other in self._wanting if other < number]
        held = any(self._passed.get(other, 0) >= PASSED_OVER for other in self._wanting)
        if self._stopped or held or not self._fits(stage.execution):
            insort(self._wanting, number)
            return False
        self._pass_over(earlier)
        self._grant(stage)
        return True

    def done(self, address: str) -> None:
        """The stage is over, and well: what waits for it may come."""
        self._release(address)
        self._left -= 1
        for name in self._followers[address]:
            self._needs[name].discard(address)
            if not self._needs[name]:
                insort(self._ready, self._rank[name])

    def failed(self, address: str) -> tuple[Stage, ...]:
        """The stage is over, and not well: the stages that need it, directly or not, which will not run."""
        self._release(address)
        blocked: set[str] = set()
        todo = [address]
        while todo:
            for name in self._followers[todo.pop()]:
                if name not in blocked:
                    blocked.add(name)
                    todo.append(name)
        self._left -= 1
        # Another failure may have blocked some of them already: those are not followers any more.
        for name in blocked:
            self._left -= 1
            for need in self._needs[name]:
                if need not in blocked:
                    self._followers[need].remove(name)
        return tuple(self._stages[number] for number in sorted(self._rank[name] for name in blocked))

    def stop(self) -> None:
        """Nothing starts any more; what is under way goes on."""
        self._stopped = True

    def abandon(self) -> None:
        """Nothing starts any more, and what was under way is nobody's: whoever had it has gone."""
        self._stopped = True
        self._looking.clear()
        self._granted.clear()

    def _fits(self, needs: Execution) -> bool:
        if self._alone or len(self._granted) >= self._capacity.jobs or not self._mutexes.isdisjoint(needs.mutex):
            return False
        if not self._granted:
            return True
        if self._exceeds(needs, Execution(0.0, 0, 0.0), {}):
            return False
        return not self._exceeds(needs, self._used, self._tokens)

    def _exceeds(self, needs: Execution, used: Execution, tokens: Mapping[str, float]) -> bool:
        there = self._capacity
        machine = self._here and (
            _more(used.cpu + needs.cpu, there.jobs)
            or _more(used.gpu + needs.gpu, there.gpu)
            or bool(there.mem and used.mem + needs.mem > there.mem)
        )
        return machine or any(
            _more(tokens.get(name, 0.0) + count, there.tokens.get(name, 1.0)) for name, count in needs.tokens
        )

    def _grant(self, stage: Stage) -> None:
        needs = stage.execution
        self._granted[stage.address] = needs
        self._passed.pop(self._rank[stage.address], None)
        self._alone = self._exceeds(needs, Execution(0.0, 0, 0.0), {})
        self._mutexes.update(needs.mutex)
        self._count(needs, lambda held, count: held + count)

    def _release(self, address: str) -> None:
        self._looking.discard(address)
        needs = self._granted.pop(address, None)
        if needs is None:
            if self._rank[address] in self._wanting:
                self._wanting.remove(self._rank[address])
            return
        self._alone = False
        self._mutexes.difference_update(needs.mutex)
        self._count(needs, lambda held, count: held - count)

    def _count(self, needs: Execution, change: Callable[[float, float], float]) -> None:
        used = self._used
        self._used = Execution(change(used.cpu, needs.cpu), int(change(used.mem, needs.mem)), change(used.gpu, needs.gpu))
        for name, count in needs.tokens:
            self._tokens[name] = change(self._tokens.get(name, 0.0), count)

    def _pass_over(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._passed[number] = self._passed.get(number, 0) + 1


def _more(wanted: float, there: float) -> bool:
    """Whether `wanted` exceeds what is there, but for what adding up fractions does."""
    return wanted > there + 1e-9
