import pytest

from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from paper_repro.sparse import METHODS
from tables import TABLES
from tables.base import Cell, Delta, MeanDelta
from tables.render import markdown
from tables.table1 import METHOD_LABELS


def build(name):
    return TABLES.build(Spec("table1"), profile=profile(name))


def test_it_has_the_papers_rows_in_the_papers_order():
    rows = build("paper").rows
    assert [row.labels[0] for row in rows[:-1:3]] == [
        "LT", "SNIP", "GraSP", "SET", "DSR", "RigL", "MEST(EM)", "MEST(EM&S)",
    ]  # fmt: skip
    assert {row.labels[1] for row in rows[:-1]} == {"SGD", "S2-SAM", "Δ"}
    assert rows[-1].labels == ("all", "mean Δ")
    kinds = [{type(e) for e in row.entries} for row in rows]
    assert kinds == [{Cell}, {Cell}, {Delta}] * 8 + [{MeanDelta}]


def test_it_has_the_papers_columns():
    assert build("paper").headers == (
        "method", "optimizer", "CIFAR-10 90%", "CIFAR-10 95%", "CIFAR-10 98%",
        "CIFAR-100 90%", "CIFAR-100 95%", "CIFAR-100 98%",
    )  # fmt: skip
    assert build("smoke").headers == (
        "method",
        "optimizer",
        *(f"{data} {s}%" for data in ("digits", "digits (for CIFAR-100)") for s in (90, 95, 98)),
    )


@pytest.mark.parametrize("name", list(PROFILES))
def test_a_cells_runs_are_what_its_labels_say(name):
    table, size = build(name), profile(name)
    for row in table.rows:
        for header, entry in zip(table.headers[2:], row.entries, strict=True):
            if not isinstance(entry, Cell):
                continue
            assert [c.seed for c in entry.runs] == list(size.seeds)
            for config in entry.runs:
                assert config.method.name == METHOD_LABELS[row.labels[0]]
                assert f"{config.sparsity:.0%}" == header.split()[-1]
                assert config.optimizer.name == ("sgd" if row.labels[1] == "SGD" else "s2sam")
                if row.labels[1] == "S2-SAM":
                    assert config.optimizer["rho"] == (0.1 if name == "cpu" else 0.05)
                assert config.method.get("distribution", "uniform") == "uniform"


def test_a_difference_is_s2sam_minus_sgd_of_the_same_runs():
    rows = build("paper").rows
    for sgd, s2sam, delta in zip(rows[0:-1:3], rows[1:-1:3], rows[2:-1:3], strict=True):
        for base, ours, entry in zip(sgd.entries, s2sam.entries, delta.entries, strict=True):
            assert (entry.baseline.runs, entry.treatment.runs) == (base.runs, ours.runs)
    for i, mean in enumerate(rows[-1].entries):
        assert mean.deltas == tuple(row.entries[i] for row in rows[2:-1:3])


def test_the_published_numbers_are_where_the_authors_gave_them_and_nowhere_else():
    found = {
        (*row.labels, header): entry.published
        for row in build("paper").rows
        for header, entry in zip(build("paper").headers[2:], row.entries, strict=True)
        if entry.published is not None
    }
    mest = {"90%": (92.56, 93.43, 0.87), "95%": (91.15, 91.58, 0.43), "98%": (89.22, 91.22, 2.0)}
    expected = {
        ("MEST(EM)", label, f"CIFAR-10 {sparsity}"): number
        for sparsity, numbers in mest.items()
        for label, number in zip(("SGD", "S2-SAM", "Δ"), numbers, strict=True)
    }
    expected["all", "mean Δ", "CIFAR-10 98%"] = 0.77
    expected["all", "mean Δ", "CIFAR-100 98%"] = 1.12
    assert found == expected


@pytest.mark.parametrize(
    ("name", "runs"), [("smoke", 100), ("cpu", 288), ("cpu-bf16-12", 144), ("paper", 288)]
)
def test_it_wants_every_run_once(name, runs):
    prints = [c.fingerprint for c in build(name).runs()]
    assert len(prints) == len(set(prints)) == runs


def test_a_method_that_is_not_there_yet_is_a_gap(tmp_path, monkeypatch):
    monkeypatch.setitem(METHOD_LABELS, "SNIP", "a-method-of-tomorrow")
    assert "a-method-of-tomorrow" not in METHODS
    row = next(r for r in build("smoke").rows if r.labels == ("SNIP", "SGD"))
    assert all(entry.runs == () for entry in row.entries)
    page = markdown(build("smoke"), Records(tmp_path), profile("smoke"))
    assert "0 of 88 runs have a record" in page


def test_the_smoke_page_does_not_speak_of_published_numbers(tmp_path):
    assert "ublished" not in markdown(build("smoke"), Records(tmp_path), profile("smoke"))
    assert "ublished" in markdown(build("paper"), Records(tmp_path), profile("paper"))


def test_smoke_says_that_both_halves_are_the_same_runs(tmp_path):
    for size, said in (("smoke", True), ("cpu", False)):
        table = TABLES.build(Spec("table1"), profile=profile(size))
        assert any("both halves show the same runs" in note for note in table.notes) is said
        width, same = len(table.headers) - 2, []
        for row in table.rows:
            runs = [[c.fingerprint for c in e.runs] for e in row.entries if isinstance(e, Cell)]
            same += [a == b for a, b in zip(runs[: width // 2], runs[width // 2 :], strict=True)]
        assert same.count(False) == (2 if said else len(same))  # SGD and S2-SAM
