"""Verdicts of the benchmarks' and the theory's results."""

import json

import pytest

from paper_repro.errors import UserError
from tables.inference.reading import NOT_MEASURED
from tables.inference.rules import FAILS, HOLDS, UNDECIDED
from tables.verdicts import measured


def test_cost_is_read_from_the_benchmarks_results(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "_CHECKOUT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    assert measured.cost().verdict == NOT_MEASURED

    def write(s2sam, sam):
        ratio = {"low": 0.9, "high": 1.1, "n": 40}
        step = {"s2sam/sgd": {**ratio, "median": s2sam}, "sam/sgd": {**ratio, "median": sam}}
        content = {"environment": {"device": "a CPU"}, "step bf16": {"step_ratio": step}}
        (tmp_path / "benchmarks" / "results-cpu.json").write_text(json.dumps(content))
        return measured.cost()

    assert write(1.01, 2.0).verdict == HOLDS
    assert write(1.2, 2.0).verdict == write(1.0, 1.5).verdict == FAILS
    assert write(1.01, 2.0).evidence == (
        "a CPU, bf16: S2-SAM/SGD 1.010 (0.900 to 1.100, n = 40), "
        "SAM/SGD 2.000 (0.900 to 1.100, n = 40)"
    )
    (tmp_path / "benchmarks" / "results-cuda.json").write_text("{}")
    with pytest.raises(UserError, match=r"results-cuda.json is no result of the benchmarks"):
        measured.cost()


def test_theory_is_read_from_its_report(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "_CHECKOUT", tmp_path)
    (tmp_path / "theory").mkdir()
    report = tmp_path / "theory" / "report.md"
    names = (*measured.PRINTED.values(), "smooth")

    def write(first, second, third, corrected=None, others=("holds",) * 3):
        said = (first, others[0], second, third, *others[1:], corrected)
        rows = [(n, v) for n, v in zip(names, said, strict=True) if v]
        report.write_text("".join(f"| {name} | {verdict} | 1 |\n" for name, verdict in rows))
        return measured.theory()

    assert write("holds", "holds", "holds").verdict == HOLDS
    assert write("holds", "inconclusive", "holds").verdict == UNDECIDED
    found = write("violated", "holds", "holds", "holds")
    assert found.verdict == FAILS and "Lemma 1 violated, its form" in found.evidence
    assert "Theorem 1 holds" in found.evidence
    for i in range(3):
        others = tuple("violated" if i == j else "holds" for j in range(3))
        assert write("holds", "holds", "holds", others=others).verdict == FAILS
    assert "corrected statements that hold: 1 of 1 (theory/report.md)" in found.evidence
    found = write("violated", "holds", "holds", "inconclusive")
    assert "corrected statements that hold: 0 of 1 (smooth inconclusive)" in found.evidence
    with pytest.raises(UserError, match="has no verdict on theorem1_appendix_printed"):
        write("holds", "holds", None)
