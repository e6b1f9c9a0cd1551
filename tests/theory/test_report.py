"""The command: errors, output files, and a report that says what was measured."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import theory
from theory.__main__ import main
from theory.findings import findings, limits
from theory.networks import load
from theory.report import failed, render, summary, write
from theory.results import Options, collect, stages
from theory.symbols import rho

_HOME = Path(theory.__file__).parent


@pytest.fixture(scope="module")
def run():
    calls = []
    options = Options(fast=True)
    return collect(options, calls.append), calls, options


def test_progress_counts_every_stage(run):
    _, calls, options = run
    assert len(calls) == stages(options)
    assert len(set(calls)) == len(calls)


def test_every_statement_is_checked_and_no_corrected_one_fails(run):
    results, _, _ = run
    assert failed(results) == []
    assert len(results.outcomes) == 27
    verdicts = {name: found.verdict for name, found in results.outcomes.items()}
    assert verdicts["lemma1_equal_printed"] == "violated"
    # No cell violates these; exact counterexamples do.
    assert verdicts["theorem1_printed"] == verdicts["theorem1_appendix_printed"] == "holds"
    headers, rows = summary(results)
    shown = {row[0]: dict(zip(headers, row, strict=True))["verdict"] for row in rows}
    assert shown["theorem1_printed"] == shown["theorem1_appendix_printed"] == "violated"
    assert shown["excess"] == "holds"
    reasons = {row[0]: row[2] for row in rows}
    assert reasons["theorem1_printed"] == (
        "Theorem 1, main text; Theorem 1 for F_lambda, main text"
    )
    assert reasons["lemma1_equal_printed"] == "54 cells; Lemma 1 without L"
    # Every cell has eta lambda <= 1, where it holds; as printed nothing limits the step.
    assert verdicts["lemma1_different_printed"] == "holds"
    assert shown["lemma1_different_printed"] == "violated"
    assert reasons["lemma1_different_printed"] == "Lemma 1 beyond eta lambda = 1"
    assert shown["lemma1_different"] == "holds"
    assert reasons["smooth"] == "-"


def test_a_violation_or_a_failed_proof_is_reported(run):
    results, _, _ = run
    bad = {**results.outcomes, "smooth": results.outcomes["lemma1_equal_printed"]}
    assert failed(replace(results, outcomes=bad)) == ["smooth"]
    assert failed(replace(results, failures={**results.failures, "pl": 1})) == ["pl"]
    doubted = {**results.objections, "pl": ["a premise"]}
    assert failed(replace(results, objections=doubted)) == ["pl"]
    broken = {**results.properties, "quadratic": {"smooth": 1.2}}
    assert failed(replace(results, properties=broken)) == ["quadratic is not smooth"]
    unnoticed = [replace(results.mutation[0], objection="")]
    assert failed(replace(results, mutation=unnoticed))[0].startswith("unnoticed: ")


def test_findings_follow_from_the_numbers(run):
    results, _, _ = run
    verdicts = {f.item: f.verdict for f in findings(results)}
    assert verdicts == {
        "1": "confirmed",
        "2": "confirmed in part",
        "3": "confirmed",
        "4": "confirmed in part",
        "5": "confirmed",
        "6": "confirmed",
        "7": "measured",
    }
    lemma = {**results.lemma_example, "left": 0.02}
    wrong = replace(results, lemma_example=lemma)
    assert findings(wrong)[0].verdict == "confirmed in part"
    off = {**results.equivalences, "change of variables": (1e-3, 10)}
    assert findings(replace(results, equivalences=off))[3].verdict == "refuted"
    loose = {**results.equivalences, "Dunkl-Williams": (1.1, 10)}
    assert findings(replace(results, equivalences=loose))[5].verdict == "refuted"
    smooth = {**results.outcomes, "smooth": results.outcomes["lemma1_equal_printed"]}
    assert findings(replace(results, outcomes=smooth))[2].verdict == "refuted"


def test_what_the_report_says_of_momentum_and_of_who_misclassifies(run):
    results, _, _ = run
    holds, vanishing = (findings(results)[index].evidence for index in (2, 4))
    worst = results.outcomes["momentum"].worst
    assert worst.setting["beta"] > 0
    assert f"largest ratio with beta > 0: {worst.ratio:.4f}" in holds
    assert "far from attained" not in holds
    assert "(1, 1000), 0.1: " in holds
    gaps = [g for g in results.gaps if g.decay_over_L == 2 and g.rho > 0]
    largest = max(g.n for g in gaps)
    for gap in gaps:
        said = f"{gap.error:.1%} at rho = {gap.rho:.3g}" in vanishing
        assert said or gap.n != largest
    assert "and SGD (rho = 0)" in vanishing


def test_limits_of_the_printed_generalization_term():
    found = limits()
    assert found["generalization"] == 6 * rho
    assert found["shrinking"] == 6
    assert str(found["literal"]) == "oo"


def test_report_and_figures(run, tmp_path):
    results, _, _ = run
    path = write(results, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "fast (a small grid)" in text
    assert all(f"### Item {k}: " in text for k in range(1, 8))
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    assert "proofs.md" in linked
    for link in linked:
        assert (tmp_path / link).is_file(), link
    for figure in (tmp_path / "figures").iterdir():
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert figure.name in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert "nan" not in "".join(tables)
    headers, rows = summary(results)
    assert all(len(row) == len(headers) for row in rows)
    assert render(results, load()) == text


def test_the_report_says_where_lemma_one_on_different_samples_holds(run):
    results, _, _ = run
    text = render(results, load())
    assert "is right as an inequality; its" not in " ".join(text.split())
    assert (
        "Where eta lambda <= 1 it is right as an inequality (proved; 54 of 54 cells hold, eta "
        "lambda up to 0.67). Beyond, the losses B u and -B u break it at every delta > 0, by "
        "2 (eta lambda - 1) delta: at eta = 1, delta = 1, B = 1, lambda = 2 the left side is 3 and "
        "the printed right side 1."
    ) in text
    evidence = findings(results)[0].evidence
    assert "lacks a condition, eta lambda <= 1" in evidence
    assert "left 3 > printed 1" in evidence


def test_report_is_reproducible(run):
    results, _, options = run
    again = replace(results, options=replace(options))
    assert render(results, load()) == render(again, load())


def test_committed_report_is_a_full_one():
    text = (_HOME / "report.md").read_text(encoding="utf-8")
    assert "full run, seed 0" in text
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (_HOME / link).is_file(), link


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--seeds", "0"], "theory: argument --seeds: an interval needs between 2 and 100000 runs"),
        (["--seeds", "many"], "theory: argument --seeds: 'many' is not a whole number"),
        (["--seed", "-1"], "theory: argument --seed: '-1' is not a non-negative whole number"),
        (["--quick"], "theory: unrecognized arguments: --quick"),
    ],
)
def test_bad_options_give_one_sentence_and_exit_code_two(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1


def test_an_unwritable_folder_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main(["--fast", "--out", str(tmp_path / "file")])
    assert stop.value.code == 2
    assert f"cannot write to --out {tmp_path / 'file'}" in capsys.readouterr().err


def test_fast_does_not_touch_the_committed_report(run, tmp_path, monkeypatch, capsys):
    results, _, _ = run
    from theory import results as module

    before = (_HOME / "report.md").read_bytes()
    monkeypatch.setattr(module, "collect", lambda options, advance: results)
    monkeypatch.setattr("theory.__main__._HOME", tmp_path)
    assert main(["--fast"]) == 0
    assert (tmp_path / "out-fast" / "report.md").is_file()
    assert not (tmp_path / "report.md").exists()
    assert (_HOME / "report.md").read_bytes() == before
    assert "lemma1_equal_printed" in capsys.readouterr().out


def test_seeds_change_the_size_of_the_grid():
    assert Options(seeds=5).grid.seeds == 5
    assert Options(fast=True, seeds=5).grid.horizons == Options(fast=True).grid.horizons
