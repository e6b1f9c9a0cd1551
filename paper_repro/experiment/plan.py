"""The order of a campaign's runs: first what narrows open questions most per core-hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paper_repro.config import RunConfig
from paper_repro.experiment.profiles import Profile

__all__ = ["Plan", "Question", "Step", "plan", "worth"]


@dataclass(frozen=True)
class Question:
    """Something undecided that runs would decide.

    Attributes:
        name: for people.
        table: whose runs it needs.
        seeds: the runs of each seed, seeds in order; runs that are compared stand side by side.
        looks: at how many seeds it is judged.
        error: standard error, in points, that its answer has after a look at so many seeds; after
            0, before the first.
        importance: a factor of its worth.
        expects: what a look at so many seeds would show, in words.
    """

    name: str
    table: str
    seeds: tuple[tuple[RunConfig, ...], ...]
    looks: tuple[int, ...]
    error: Callable[[int], float]
    importance: float = 1.0
    expects: Callable[[int], str] = lambda n: ""


def worth(question: Question, n: int) -> float:
    """How much a further whole seed after ``n`` shrinks a question's standard error, in points.

    Only looks decide, so the way from one look a to the next b is worth error(a) - error(b),
    shared evenly among its b - a seeds, times the question's importance. Beyond the last look
    nothing is.
    """
    before = max((look for look in question.looks if look <= n), default=0)
    after = min((look for look in question.looks if look > n), default=None)
    if after is None:
        return 0.0
    shrinks = question.error(before) - question.error(after)
    return question.importance * shrinks / (after - before)


@dataclass(frozen=True)
class Step:
    """A run of a plan.

    Attributes:
        config: the run.
        hours: core-hours that it takes, given the run that it starts from.
        question: what it was put here for; None for what only tables want.
    """

    config: RunConfig
    hours: float
    question: str | None


@dataclass(frozen=True)
class Plan:
    """Missing runs in the order to train them.

    Attributes:
        steps: the runs, and before each those that it starts from.
        there: seeds that each question has already, by name.
        reached: how many seeds each question has after how many steps, by name, in order.
    """

    steps: tuple[Step, ...]
    there: Mapping[str, int]
    reached: Mapping[str, tuple[tuple[int, int], ...]]

    @property
    def configs(self) -> list[RunConfig]:
        return [step.config for step in self.steps]

    def seeds_after(self, name: str, hours: float) -> int:
        """Whole seeds that a question has after so many core-hours of the plan."""
        steps, total = 0, 0.0
        for step in self.steps:
            total += step.hours
            if total > hours:
                break
            steps += 1
        return max((n for at, n in self.reached[name] if at <= steps), default=self.there[name])

    def hours_until(self, name: str, seeds: int) -> float | None:
        """Core-hours after which a question has so many seeds; None if it never has."""
        at = min((at for at, n in self.reached[name] if n >= seeds), default=None)
        return None if at is None else sum(step.hours for step in self.steps[:at])


class _Ledger:
    """What is there or planned already, and what the rest costs."""

    def __init__(
        self, done: Callable[[RunConfig], bool], cost: Callable[[RunConfig], float]
    ) -> None:
        self._is_done, self._cost = done, cost
        self._chains: dict[str, list[str]] = {}
        self._configs: dict[str, RunConfig] = {}
        self._costs: dict[str, float] = {}
        self.done: set[str] = set()
        self._asked: set[str] = set()

    def ask(self, config: RunConfig) -> str:
        """A run's fingerprint; finds out whether it is done, and what its chain costs."""
        name = config.fingerprint
        if name in self._asked:
            return name
        self._asked.add(name)
        parent = config.parent()
        above = None if parent is None else self.ask(parent)
        chain = [] if above is None or above in self.done else self._chains[above]
        if self._is_done(config):
            self.done.add(name)
        self._chains[name] = [*chain, name]
        self._configs[name], self._costs[name] = config, self._cost(config)
        return name

    def missing(self, names: Iterable[str]) -> dict[str, float]:
        """The runs that training these takes, parents included, with their cost."""
        wanted = (name for name in names if name not in self.done)
        chains = (n for name in wanted for n in self._chains[name])
        return {n: self._costs[n] for n in chains if n not in self.done}

    def plan(self, name: str, question: str | None) -> list[Step]:
        """The steps that train a run, after which all of them count as done."""
        costs = self.missing([name])
        self.done.update(costs)
        return [Step(self._configs[n], cost, question) for n, cost in costs.items()]

    def is_chained(self, name: str) -> bool:
        """Whether a run starts from another."""
        return self._configs[name].parent() is not None


def plan(
    questions: Sequence[Question],
    tables: Mapping[str, Iterable[RunConfig]],
    size: Profile,
    done: Callable[[RunConfig], bool],
    cost: Callable[[RunConfig], float],
) -> Plan:
    """Every missing run of the questions and the tables, each once, in the order to train them.

    Blocks of whole seeds of a question are chosen greedily: the next one has the largest

        Σ worth over the questions that it gives a further seed / its core-hours,

    runs that questions share counted for all and paid once. Within a block comparisons stay
    together, single runs before pruning chains. What only tables want follows by seeds.

    Args:
        questions: what is undecided.
        tables: all runs that the tables want, by table.
        size: their profile.
        done: whether a run has a record already.
        cost: core-hours of a run without its parents.
    """
    ledger = _Ledger(done, cost)
    names = {q.name: [[ledger.ask(c) for c in seed] for seed in q.seeds] for q in questions}
    steps: list[Step] = []

    def whole(name: str, also: frozenset[str] | set[str] = frozenset()) -> int:
        return sum(all(n in ledger.done or n in also for n in seed) for seed in names[name])

    have = {q.name: whole(q.name) for q in questions}
    there = dict(have)
    reached: dict[str, list[tuple[int, int]]] = {q.name: [] for q in questions}

    open_questions = [q for q in questions if worth(q, have[q.name]) > 0]
    while open_questions:
        best: tuple[float, Question, list[str]] | None = None
        for q in open_questions:
            block = _next_block(names[q.name], ledger)
            costs = ledger.missing(block)
            gain = sum(
                worth(r, have[r.name])
                for r in open_questions
                if r is q or _completes(names[r.name], ledger, costs)
            )
            rate = gain / max(sum(costs.values()), 1e-12)
            if best is None or rate > best[0]:
                best = rate, q, block
        assert best is not None
        _, chosen, block = best
        for name in sorted(block, key=ledger.is_chained):
            steps += ledger.plan(name, chosen.name)
        for q in questions:
            now = whole(q.name)
            if now > have[q.name]:
                have[q.name] = now
                reached[q.name].append((len(steps), now))
        open_questions = [
            q for q in open_questions if worth(q, have[q.name]) > 0 and have[q.name] < len(q.seeds)
        ]
    rest = [config for runs in tables.values() for config in runs]
    rest.sort(key=lambda c: (size.rank(c), c.parent() is not None))
    for config in rest:
        steps += ledger.plan(ledger.ask(config), None)
    return Plan(tuple(steps), there, {name: tuple(at) for name, at in reached.items()})


def _next_block(seeds: Sequence[Sequence[str]], ledger: _Ledger) -> list[str]:
    """The missing runs of the first seed that is not whole."""
    for seed in seeds:
        missing = [name for name in seed if name not in ledger.done]
        if missing:
            return list(dict.fromkeys(missing))
    return []


def _completes(seeds: Sequence[Sequence[str]], ledger: _Ledger, also: Mapping[str, float]) -> bool:
    """Whether further runs make the first seed whole that is not."""
    block = _next_block(seeds, ledger)
    return bool(block) and all(name in also for name in block)
