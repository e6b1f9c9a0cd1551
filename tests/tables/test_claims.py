"""The paper's claims: which runs each is judged by, and what the page says of them."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
from workplaces import made_body

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.claims import OTHERS, controlled, rule_in_words
from tables.inference.looks import LOOKS
from tables.inference.reading import NOT_MEASURED, Finding
from tables.inference.rules import AVERAGE, FAILS, HOLDS, NO_LARGER, UNDECIDED
from tables.parts import CONTROL, PARTS, with_looks
from tables.render import csv, latex, markdown

CPU, PAPER, SMOKE = profile("cpu"), profile("paper"), profile("smoke")
OPEN = "(whether this bed shows SAM's gain is open)"
NEITHER = "(this bed does not show SAM's gain either)"


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "results")


def build(size):
    return TABLES.build(Spec("claims"), profile=size)


def fill(records, table, size, gain):
    """Records of every run of a table: SGD at 80 %, the others above it by ``gain(config)``."""
    for config in TABLES.build(Spec(table), profile=size).runs():
        noise = np.random.default_rng(int(config.fingerprint, 16)).normal(0, 0.05)
        last = 80.0 + noise + (gain(config) if config.optimizer.name != "sgd" else 0.0)
        records.write(config, "finished", made_body(last=last, best=last))


def verdicts(records, size):
    return {row.labels[0]: row.entries[0].say(records) for row in build(size).rows}


def test_verdicts_of_made_up_records(records):
    found = verdicts(records, CPU)
    assert {found[part.label] for part in PARTS} == {NOT_MEASURED}
    # The tables share runs, MEST(EM)'s and on some profiles LT's: the later table's stay.
    fill(records, "ablation-ratio", CPU, lambda c: 3 - 10 * c.method["prune_ratio"])
    for table in ("table1", "ablation-lrr", "table4"):
        fill(records, table, CPU, lambda c: 1.0)
    found = verdicts(records, CPU)
    assert [found[x] for x in ("1a", "1c", "7", "3a")] == [f"{HOLDS} {OPEN}"] * 4
    assert found["2b"] == f"{NO_LARGER} {OPEN}" and found["6"] == f"{FAILS} {OPEN}"
    assert found["C"] == UNDECIDED and found["9"] == NOT_MEASURED
    fill(records, "ablation-sweep", CPU, lambda c: 2 * c.sparsity)
    fill(records, "control", CPU, lambda c: 1.0 if c.optimizer.name == "s2sam" else 2.0)
    found = verdicts(records, CPU)
    assert found["C"] == found["2a"] == found["9"] == HOLDS
    assert found["3b"] == FAILS  # a point is more than marginal
    assert [found[i] for i in ("5", "8", "10")] == [NOT_MEASURED] * 3
    assert found["11"] == FAILS  # the committed theory report


def test_weight_decay_is_told_from_the_optimizers_gain(records):
    # All of the released gain is the weight decay's.
    for config in TABLES.build(Spec("ablation-weight-decay"), profile=PAPER).runs():
        noise = np.random.default_rng(int(config.fingerprint, 16)).normal(0, 0.02)
        last = 89.0 + noise + (2.0 if config.weight_decay == 5e-4 else 0.0)
        records.write(config, "finished", made_body(last=last))
    found = verdicts(records, PAPER)
    assert [found[f"W{x}"] for x in "ad"] == [f"{HOLDS} {OPEN}"] * 2
    assert [found[f"W{x}"] for x in "bcef"] == [f"{NO_LARGER} {OPEN}"] * 4


def test_a_bed_without_sams_gain_is_named_in_what_it_says_of_s2sam(records):
    for table, gain in (("table1", -1.0), ("control", -1.0)):
        fill(records, table, PAPER, lambda c, gain=gain: gain)
    found = verdicts(records, PAPER)
    assert found["C"] == FAILS
    assert found["1a"] == f"{FAILS} {NEITHER}"
    assert found["7"] == NOT_MEASURED and found["4"] in (HOLDS, FAILS)


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (HOLDS, AVERAGE),
        (FAILS, f"{AVERAGE} {NEITHER}"),
        (NO_LARGER, f"{AVERAGE} {NEITHER}"),
        (UNDECIDED, f"{AVERAGE} {OPEN}"),
        (NOT_MEASURED, f"{AVERAGE} {OPEN}"),
    ],
)
def test_the_control_bears_on_what_was_measured(control, said):
    assert controlled(Finding(AVERAGE, "."), Finding(control, ".")).verdict == said
    nothing = Finding(NOT_MEASURED, ".")
    assert controlled(nothing, Finding(control, ".")) == nothing


def test_a_size_that_is_no_evidence_has_no_verdicts(records):
    fill(records, "control", replace(SMOKE, seeds=(0, 1, 2)), lambda c: 5.0)
    assert set(verdicts(records, SMOKE).values()) == {"no evidence"}


def test_looks_go_on_with_the_seeds_after_the_profiles():
    seeds = with_looks(PAPER).seeds
    assert seeds[:3] == PAPER.seeds and len(set(seeds)) == len(seeds) == LOOKS[-1]
    assert 0 not in with_looks(CPU).seeds  # the pilot's, which chose the profile


def test_more_seeds_than_the_profiles_are_judged_too(records):
    more = with_looks(CPU)
    five = TABLES.build(Spec("control"), profile=more)
    for config in five.runs():
        if config.seed in more.seeds[:5]:
            digest = int(hashlib.sha256(config.fingerprint.encode()).hexdigest(), 16)
            noise = np.random.default_rng(digest).normal(0, 0.05)
            gain = 1.0 if config.optimizer.name == "sam" else 0.0
            records.write(config, "finished", made_body(last=80 + gain + noise))
    row = next(row for row in build(CPU).rows if row.labels[0] == "C")
    assert row.entries[0].say(records) == HOLDS
    assert "(look at n = 5)" in row.entries[1].say(records)


@pytest.mark.parametrize("part", [CONTROL, *PARTS], ids=lambda p: p.label)
def test_every_part_has_differences_of_its_own_table(part):
    deltas = part.deltas(PAPER)
    own = {c.fingerprint for c in TABLES.build(Spec(part.table), profile=PAPER).runs()}
    runs = [c for d in deltas.values() for cell in (d.treatment, d.baseline) for c in cell.runs]
    assert deltas and {c.fingerprint for c in runs} <= own
    assert len({c.fingerprint for c in runs}) == len(runs)  # each run is in one difference
    weights = [term.weight for term in part.build(deltas).values()]
    rising = part.what.startswith(("rise", "interaction"))
    assert sum(weights) == pytest.approx(0.0 if rising else 1.0)


def test_the_parts_cover_the_cells_that_they_name():
    found = {part.label: part.deltas(PAPER) for part in (CONTROL, *PARTS)}
    counts = {label: len(deltas) for label, deltas in found.items()}
    assert counts == {
        "C": 2, "1a": 21, "1b": 3, "1c": 21, "1d": 3, "2a": 8, "2b": 21, "3a": 3, "3b": 1,
        "6": 3, "7": 3, "9": 1, "Wa": 1, "Wb": 2, "Wc": 2, "Wd": 1, "We": 2, "Wf": 2,
    }  # fmt: skip
    assert not {c.method.name for d in found["1a"].values() for c in d.treatment.runs} & {"lt"}
    pairs = {
        label: {
            (d.treatment.runs[0].optimizer.name, d.baseline.runs[0].optimizer.name)
            for d in deltas.values()
        }
        for label, deltas in found.items()
    }
    assert pairs.pop("C") == {("sam", "sgd")}
    assert pairs.pop("3a") == pairs.pop("3b") == {("s2sam", "sam")}
    assert set(map(frozenset, pairs.values())) == {frozenset({("s2sam", "sgd")})}
    released = found["Wa"]["diagonal"]
    arms = [cell.runs[0].weight_decay for cell in (released.treatment, released.baseline)]
    assert arms == [5e-4, 1e-4]


@pytest.mark.parametrize("size", [CPU, PAPER, SMOKE], ids=lambda p: p.name)
def test_the_page_shows_every_claim_with_its_rule(records, size):
    page = markdown(build(size), records, size)
    rows = [(part.text, rule_in_words(part)) for part in (CONTROL, *PARTS)]
    rows += [(text, rule) for _, text, rule, _ in OTHERS]
    assert all(text in page and rule in page for text, rule in rows)
    labels = [row.labels[0] for row in build(size).rows]
    numbers = [int(re.match(r"\d+", label)[0]) for label in labels if label[0].isdigit()]
    assert numbers == sorted(numbers) and set(numbers) == set(range(1, 12))
    assert "runs have a record" not in page
    assert latex(build(size), records, size).count(r" \\" + "\n") == 1 + len(rows)
    lines = csv(build(size), records, size).splitlines()
    assert len(lines) == 1 + 2 * len(rows) and lines[0].endswith("column,words")
