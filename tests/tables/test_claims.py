"""The paper's claims: which runs each is judged by, and what the page says of them."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest
from workplaces import made_body

from paper_repro.data.corrupted import TYPES
from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.claims import OTHERS, _elsewhere, controlled, rule_in_words, whole_in_words
from tables.inference.looks import LOOKS
from tables.inference.reading import NOT_MEASURED, Finding
from tables.inference.rules import AVERAGE, FAILS, HOLDS, NO_LARGER, UNDECIDED
from tables.render import csv, latex, markdown
from tables.verdicts.parts import CONTROLS, PARTS, WHOLES, with_looks

CPU, PAPER, SMOKE = profile("cpu"), profile("paper"), profile("smoke")
LOOKED = with_looks(CPU)
OPEN = "(whether this bed shows SAM's gain is open)"
NEITHER = "(this bed does not show SAM's gain either)"
BARE = "(no control on this bed)"


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


def judged(records, *labels):
    """Verdicts and evidence of some parts, without the controls."""
    found = {p.label: p.judge(LOOKED, records) for p in PARTS if p.label in labels}
    return {k: f.verdict for k, f in found.items()}, {k: f.evidence for k, f in found.items()}


def test_verdicts_of_made_up_records(records):
    found = verdicts(records, CPU)
    assert {found[part.label] for part in PARTS} == {NOT_MEASURED}
    # The tables share runs, MEST(EM)'s and on some profiles LT's: the later table's stay.
    fill(records, "ablation-ratio", CPU, lambda c: 3 - 10 * c.method["prune_ratio"])
    for table in ("table1", "ablation-lrr", "table4"):
        fill(records, table, CPU, lambda c: 1.0)
    found = verdicts(records, CPU)
    assert [found[x] for x in ("1a", "7", "3a")] == [f"{HOLDS} {OPEN}"] * 3
    assert found["1c"] == f"{HOLDS} {BARE}"
    assert found["2b"] == f"{NO_LARGER} {OPEN}" and found["6"] == f"{FAILS} {OPEN}"
    assert found["C"] == UNDECIDED and found["9"] == NOT_MEASURED
    fill(records, "ablation-sweep", CPU, lambda c: 2 * c.sparsity)
    fill(records, "control", CPU, lambda c: 1.0 if c.optimizer.name == "s2sam" else 2.0)
    found = verdicts(records, CPU)
    assert found["C"] == found["2a"] == found["9"] == HOLDS
    assert found["3b"] == FAILS  # a point is more than marginal
    beyond = ("5a", "5b", "8", "R", "10", "10a", "10b", "Ct")
    assert [found[i] for i in beyond] == [NOT_MEASURED] * len(beyond)
    assert found["11"] == FAILS  # the committed theory report


def measured(records, table, values):
    """Measures of every run of a table, of ``values(config, noise)``; and the runs' records."""
    for config, spec in TABLES.build(Spec(table), profile=CPU).measures():
        noise = np.random.default_rng(int(config.fingerprint, 16))
        if (found := values(config, noise, spec)) is not None:
            records.write(config, "finished", made_body(last=80.0))
            body = {"weights": "", "environment": {"commit": "c0ffee", "dirty": False}}
            Measures(records.folder).write(config, spec, found, body)


def surfaces_of(ratio, rises, spoilt=lambda config: False, apart=0.0):
    """Ra that S2-SAM divides by ``ratio`` and that grows by ``rises`` a point of sparsity.

    Along pair i both logarithms are larger by (i - 2) ``apart``, of the ratio and of the whole rise
    from 80 to 98 %.
    """

    def values(config, noise, spec):
        if spec.name != "surface":
            return None
        grown = np.exp(rises * 100 * config.sparsity + 0.01 * noise.standard_normal())
        ra = grown / (ratio if config.optimizer.name == "s2sam" else 1.0)
        own = config.optimizer.name == "s2sam"
        tilt = apart * (100 * config.sparsity / 18 - own)
        along = [None if spoilt(config) else ra * np.exp((i - 2) * tilt) for i in range(5)]
        return {"ra": ra, "ra_std": 0.1, "ra_each": along, "loss": 0.1}

    return values


def under_corruptions(gain, clean=0.0, blurred=0.0):
    """Accuracies that S2-SAM raises by ``gain``, by ``clean`` without and more under blur."""

    def values(config, noise, spec):
        own = config.optimizer.name == "s2sam"
        at = 60.0 + 0.1 * noise.standard_normal()
        types = {
            name: [at + own * (gain + (blurred if "blur" in name else 0.0))] * 5 for name in TYPES
        }
        mean = float(np.mean([v[0] for v in types.values()]))
        return {"clean": 80 + own * clean, "mean": mean, "types": types,
                "common": mean, "groups": {}}  # fmt: skip

    return values


@pytest.mark.parametrize(
    ("ratio", "rises", "fifth"),
    [
        (1.5, 0.05, {"5a": HOLDS, "5b": HOLDS}),
        (1.0, 0.0, {"5a": "no rise of 10 log points", "5b": "no fall of 10 log points"}),
        (0.7, -0.05, {"5a": FAILS, "5b": FAILS}),
    ],
)
def test_surfaces_are_judged_by_the_ratio_of_ra(records, ratio, rises, fifth):
    measured(records, "surfaces", surfaces_of(ratio, rises))
    found, says = judged(records, "5a", "5b")
    assert found == fifth
    fall = float(says["5b"].split(": ")[1].split()[0])
    assert fall == pytest.approx(100 * np.log(ratio), abs=3)
    assert "of 12 differences (look at n = 3)" in says["5b"]
    above, below = (5, 0) if ratio > 1 else (0, 5) if ratio < 1 else (0, 0)
    assert f"of 5 one by one above 0: {above}" in says["5b"] and f"below: {below}" in says["5b"]
    rise = float(says["5a"].split(": ")[1].split()[0])
    assert rise == pytest.approx(18 * 100 * rises, abs=5)


@pytest.mark.parametrize(("apart", "verdict"), [(0.0, HOLDS), (0.3, UNDECIDED)])
def test_directions_that_differ_leave_flatness_open(records, apart, verdict):
    measured(records, "surfaces", surfaces_of(1.3, 0.02, apart=apart))
    found, says = judged(records, "5a", "5b")
    assert found == {"5a": verdict, "5b": verdict}
    for label in found:
        # More seeds do not tell what only more directions can.
        assert ("even with n = 20" in says[label]) == (apart > 0)


def test_a_surface_that_is_not_finite_keeps_anything_from_holding(records):
    spoilt = lambda c: c.seed == 1 and c.method.name == "snip" and c.sparsity == 0.98  # noqa: E731
    measured(records, "surfaces", surfaces_of(1.5, 0.05, spoilt))
    found, says = judged(records, "5b")
    assert found["5b"] == UNDECIDED and "of 11 differences" in says["5b"]
    assert says["5b"].endswith("; left out, with runs that diverged: 1")


def test_corruptions_are_judged_by_their_mean_and_type_by_type(records):
    measured(records, "table5", under_corruptions(1.0, clean=1.0, blurred=2.0))
    found, says = judged(records, "8", "R")
    assert found["8"] == HOLDS and "of 4 differences (look at n = 3)" in says["8"]
    assert "of 19 one by one above 0: 19" in says["8"]
    assert found["R"] == HOLDS  # under blur alone
    measured(records, "table5", under_corruptions(-1.0, clean=-1.0, blurred=1.0))
    found, says = judged(records, "8")
    assert found["8"] == FAILS and "below: 14 (" in says["8"]
    measured(records, "table5", under_corruptions(0.0))
    assert judged(records, "8")[0]["8"] == "no gain of 0.5 points"


def test_other_tasks_are_judged_one_by_one_and_together(records):
    fill(records, "table3", CPU, lambda c: 1.0)
    assert judged(records, "10a", "10b")[0] == {"10a": NOT_MEASURED, "10b": HOLDS}
    fill(records, "rebuttal-translation", CPU, lambda c: 1.0)
    fill(records, "control", CPU, lambda c: 1.0)
    found = verdicts(records, CPU)
    assert [found[x] for x in ("C", "Ct", "10a")] == [HOLDS] * 3
    assert [found[x] for x in ("10", "10b")] == [f"{HOLDS} {BARE}"] * 2  # SAM never ran there
    (row,) = (row for row in build(CPU).rows if row.labels[0] == "10")
    assert row.entries[1].say(records) == f"10a: {HOLDS}; 10b: {HOLDS}"
    fill(records, "rebuttal-translation", CPU, lambda c: 1.0 * (c.optimizer.name == "s2sam"))
    found = verdicts(records, CPU)  # SAM gains nothing there
    assert found["Ct"] in ("no gain of 0.2 BLEU", UNDECIDED)
    assert found["10a"] == f"{HOLDS} {doubt(found['Ct'])}"
    assert found["10b"] == found["10"] == f"{HOLDS} {BARE}"


def doubt(control):
    return OPEN if control == UNDECIDED else NEITHER


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
    bare = controlled(Finding(AVERAGE, "."), Finding(control, "."), elsewhere=True)
    assert bare.verdict == f"{AVERAGE} {BARE}"
    assert controlled(nothing, Finding(control, "."), elsewhere=True) == nothing


@pytest.mark.parametrize("size", [CPU, PAPER], ids=lambda p: p.name)
def test_a_control_is_of_its_own_data_and_networks(size):
    bare = {part.label for part in PARTS if part.control and _elsewhere(part, size)}
    assert {"1c", "1d", "10b"} <= bare
    assert not bare & {"1a", "1b", "2b", "3b", "9", "10a"}


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


@pytest.mark.parametrize("part", [*CONTROLS, *PARTS], ids=lambda p: p.label)
def test_every_part_has_differences_of_its_own_table(part):
    deltas = part.deltas(PAPER)
    own = {c.fingerprint for c in TABLES.build(Spec(part.table), profile=PAPER).runs()}
    runs = [c for d in deltas.values() for cell in (d.treatment, d.baseline) for c in cell.runs]
    assert deltas and {c.fingerprint for c in runs} <= own
    assert len({c.fingerprint for c in runs}) == len(runs)  # each run is in one difference
    weights = [term.weight for term in part.build(deltas).values()]
    if part.label == "5a":  # along the longest way: 18 (18 a + 5 b) / (18² + 5²), a third each
        assert sorted(weights) == pytest.approx([18 * 5 / 349 / 3] * 3 + [18 * 18 / 349 / 3] * 3)
    else:
        rising = part.what.startswith(("rise", "interaction"))
        assert sum(weights) == pytest.approx(0.0 if rising else 1.0)


def test_the_parts_cover_the_cells_that_they_name():
    found = {part.label: part.deltas(PAPER) for part in (*CONTROLS, *PARTS)}
    counts = {label: len(deltas) for label, deltas in found.items()}
    assert counts == {
        "C": 2, "Ct": 1, "1a": 21, "1b": 3, "1c": 21, "1d": 3, "2a": 8, "2b": 21, "3a": 3, "3b": 1,
        "5a": 6, "5b": 12, "8": 4, "R": 4, "10a": 3, "10b": 8,
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
    assert pairs.pop("C") == pairs.pop("Ct") == {("sam", "sgd")}
    assert pairs.pop("5a") == {("sgd", "sgd")}
    assert pairs.pop("3a") == pairs.pop("3b") == {("s2sam", "sam")}
    assert set(map(frozenset, pairs.values())) == {frozenset({("s2sam", "sgd")})}
    released = found["Wa"]["diagonal"]
    arms = [cell.runs[0].weight_decay for cell in (released.treatment, released.baseline)]
    assert arms == [5e-4, 1e-4]


@pytest.mark.parametrize("size", [CPU, PAPER, SMOKE], ids=lambda p: p.name)
def test_the_page_shows_every_claim_with_its_rule(records, size):
    page = markdown(build(size), records, size)
    rows = [(part.text, rule_in_words(part)) for part in (*CONTROLS, *PARTS)]
    rows += [(whole.text, whole_in_words(whole)) for whole in WHOLES]
    rows += [(text, rule) for _, text, rule, _ in OTHERS]
    assert all(text in page and rule in page for text, rule in rows)
    labels = [row.labels[0] for row in build(size).rows]
    numbers = [int(re.match(r"\d+", label)[0]) for label in labels if label[0].isdigit()]
    assert numbers == sorted(numbers) and set(numbers) == set(range(1, 12))
    assert "runs have a record" not in page
    body = latex(build(size), records, size).split(r"\endlastfoot")[1]
    assert body.count(r" \\" + "\n") == len(rows)
    lines = csv(build(size), records, size).splitlines()
    assert len(lines) == 1 + 2 * len(rows) and lines[0].endswith("column,words")
