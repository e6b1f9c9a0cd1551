"""Plans: every missing run once, whole seeds, and first what narrows most per core-hour."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workplaces import lottery, tiny

from paper_repro.experiment.plan import Question, plan, worth
from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.records import Records
from paper_repro.optim import OPTIMIZERS
from paper_repro.registry import Spec
from tables import TABLES
from tables.verdicts.worth import questions

SMOKE = profile("smoke")
SGD = OPTIMIZERS.spec("sgd")


def pair(number, seed):
    """Two runs that are compared, the ``number``-th of their kind."""
    ours = tiny(batch_size=8 + number, seed=seed)
    return ours, replace(ours, optimizer=SGD)


def error(n):
    return 1 / math.sqrt(n + 1)


def question(name, numbers, seeds=4, looks=(2, 4), importance=1.0):
    runs = tuple(tuple(c for n in numbers for c in pair(n, s)) for s in range(seeds))
    return Question(name, "a table", runs, looks, error, importance)


def made(asked, tables=None, done=(), cost=lambda c: 1.0):
    known = {c.fingerprint for c in done}
    return plan(asked, tables or {}, SMOKE, lambda c: c.fingerprint in known, cost)


def names(order):
    return [step.question for step in order.steps]


def test_worth_is_what_a_seed_adds_on_the_way_to_the_next_look():
    q = question("q", [0], looks=(3, 5, 10))
    error = q.error
    assert [worth(q, n) for n in range(3)] == [(error(0) - error(3)) / 3] * 3
    assert worth(q, 3) == worth(q, 4) == (error(3) - error(5)) / 2
    assert worth(q, 10) == 0.0 and worth(replace(q, importance=3.0), 0) == 3 * worth(q, 0)
    # The ways to the looks add up.
    assert sum(worth(q, n) for n in range(10)) == pytest.approx(error(0) - error(10))


def test_cheap_answers_come_before_dear_ones_and_many_before_one():
    dear, cheap = question("dear", [0, 1, 2]), question("cheap", [3])
    assert names(made([dear, cheap]))[:2] == ["cheap", "cheap"]
    costs = lambda c: 10.0 if c.batch_size == 11 else 1.0  # noqa: E731
    assert names(made([dear, cheap], cost=costs))[0] == "dear"
    assert names(made([dear, replace(cheap, importance=0.1)]))[0] == "dear"
    both = [question("one", [0]), question("too", [0]), question("other", [1])]
    order = made([both[2], both[0], both[1]])
    assert names(order)[0] in ("one", "too")
    assert len(order.steps) == 2 * 2 * 4  # what questions share is planned once


def test_whole_seeds_and_comparisons_stay_together():
    order = made([question("q", [0, 1, 2])])
    seeds = [c.seed for c in order.configs]
    assert seeds == sorted(seeds)
    for ours, theirs in zip(order.configs[::2], order.configs[1::2], strict=True):
        assert ours == replace(theirs, optimizer=ours.optimizer)


def test_what_is_there_is_not_planned_and_counts():
    q = question("q", [0])
    done = [*pair(0, 0), pair(0, 1)[0]]
    order = made([q], done=done)
    assert order.there["q"] == 1 and len(order.steps) == 5
    assert order.configs[0] == pair(0, 1)[1]  # the half that is missing
    assert order.reached["q"] == ((1, 2), (3, 3), (5, 4))
    assert (order.seeds_after("q", 0.5), order.seeds_after("q", 3.0)) == (1, 3)
    assert (order.hours_until("q", 3), order.hours_until("q", 5)) == (3.0, None)


def test_chains_are_paid_with_their_parents_once_and_come_last_in_their_block():
    last = lottery(0.75)
    chains = [last.parent(), last]
    single = tiny()
    q = Question("q", "t", ((chains[1], chains[0], single),), (1,), error)
    order = made([q])
    dense = chains[0].parent()
    assert order.configs == [single, dense, *chains]
    assert [s.hours for s in order.steps] == [1.0] * 4
    assert made([q], done=[dense]).configs == [single, *chains]
    assert made([q], done=[chains[0]]).configs == [single, chains[1]]


def test_after_the_questions_comes_what_only_tables_want_by_seed():
    q = question("q", [0], seeds=2, looks=(2,))
    other = [tiny(seed=1), lottery(0.5), tiny(seed=0), pair(0, 0)[0]]
    order = made([q], {"a": other[:2], "b": other[2:]})
    assert names(order) == ["q"] * 4 + [None] * 4
    assert order.configs[4:] == [other[2], other[1].parent(), other[1], other[0]]


@given(st.integers(0, 10_000))
def test_every_missing_run_is_planned_once(seed):
    rng = random.Random(seed)
    asked = [
        question(f"q{i}", rng.sample(range(5), rng.randint(1, 3)), seeds=rng.randint(1, 4))
        for i in range(rng.randint(0, 4))
    ]
    runs = [c for q in asked for s in q.seeds for c in s]
    tables = {"t": [tiny(batch_size=8 + rng.randrange(8)) for _ in range(4)]}
    every = {c.fingerprint: c for c in (*runs, *tables["t"])}
    done = rng.sample(list(every.values()), rng.randint(0, len(every)))
    order = made(asked, tables, done, lambda c: rng.random() + 0.1)
    planned = [c.fingerprint for c in order.configs]
    wanted = set(every) - {c.fingerprint for c in done}
    assert len(planned) == len(set(planned))
    # Beyond the last look a question wants nothing more, but every table's run is planned.
    assert {c.fingerprint for c in tables["t"]} - {c.fingerprint for c in done} <= set(planned)
    assert set(planned) <= wanted
    for q in asked:
        have = order.reached[q.name][-1][1] if order.reached[q.name] else order.there[q.name]
        assert have >= min(len(q.seeds), max(k for k in (0, *q.looks) if k <= len(q.seeds)))


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_run_of_every_table_is_planned_once(name, tmp_path):
    size = profile(name)
    wants = {t: list(TABLES.build(Spec(t), profile=size).runs()) for t in TABLES}
    asked = questions(size, Records(tmp_path))
    order = plan(asked, wants, size, lambda c: False, lambda c: c.epochs)
    planned = [c.fingerprint for c in order.configs]
    assert len(planned) == len(set(planned))
    assert {c.fingerprint for runs in wants.values() for c in runs} <= set(planned)
    assert {c.profile for c in order.configs} == {c.profile for r in wants.values() for c in r}


def test_a_question_gives_way_before_it_is_known_too_well():
    # The cheap one is asked first, but not to its last seed before the dear one is begun.
    dear, cheap = question("dear", range(5)), question("cheap", [5], seeds=40, looks=(2, 40))
    order = names(made([dear, cheap]))
    assert order[0] == "cheap" and order.index("dear") < order.count("cheap")


def test_in_the_papers_setting_weight_decay_at_98_percent_comes_first(tmp_path):
    # Where the paper reports its largest gain, at the least cost: whose gain it is.
    size = profile("paper")
    cost = lambda c: (0.03 + 2.4 * (1 - c.sparsity)) * (2 if c.optimizer.name == "sam" else 1)  # noqa: E731
    order = plan(questions(size, Records(tmp_path)), {}, size, lambda c: False, cost)
    first = order.configs[:12]
    assert {(c.method.name, c.sparsity, c.dataset) for c in first} == {("mest", 0.98, "cifar10")}
    assert {c.weight_decay for c in first} == {1e-4, 5e-4} and {c.seed for c in first} == {0, 1, 2}
