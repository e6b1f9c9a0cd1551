"""Rebuttal R5's table: which runs, which of a record's scores, and what it says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from workplaces import made_body

from paper_repro.experiment.profiles import PROFILES
from paper_repro.experiment.records import Record, Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.ablation_translation_rho import RHOS, validation_bleu, validation_loss
from tables.base import Cell, Delta, Table
from tables.published import R5_TRANSLATION
from tables.rebuttal_translation import (
    RHO_ADAM,
    RHO_SOURCE,
    chosen_bleu,
    last_chrf,
    unaveraged_bleu,
)
from tables.render import csv, markdown


def build(name: str = "rebuttal-translation", profile: str = "paper") -> Table:
    table: Table = TABLES.build(Spec(name), profile=PROFILES[profile])
    return table


def record(table: Table, **last: float) -> Record:
    scores = [(0.5, 29.0, 27.0), (0.8, 31.0, 26.0), (0.8, 30.0, 28.0)]  # sparsity, two BLEUs
    curve = [
        {
            "epoch": n,
            "sparsity": sparsity,
            "validation_bleu": validated,
            "test_bleu": tested,
            "test_chrf": 2 * tested,
        }
        for n, (sparsity, validated, tested) in enumerate(scores, 1)
    ]
    curve.insert(2, {"epoch": 2.5, "sparsity": 0.8})  # an epoch without an evaluation
    curve[-1] |= {"validation_loss": 1.5, **last}
    body = {**made_body(28.0, 28.0), "score": "test_bleu", "curve": curve}
    return Record(next(table.runs()), "finished", body)


def test_dense_80_and_90_with_adam_and_s2sam_and_the_papers_numbers() -> None:
    table = build()
    assert [row.labels for row in table.rows] == [
        ("dense", "Adam"),
        ("dense", "S2-SAM"),
        ("dense", "SAM"),
        ("80%", "Adam"),
        ("80%", "S2-SAM"),
        ("90%", "Adam"),
        ("90%", "S2-SAM"),
    ]
    for row in table.rows:
        base, ours = R5_TRANSLATION[{"dense": 0.0, "80%": 0.8, "90%": 0.9}[row.labels[0]]]
        known = {"Adam": base, "S2-SAM": ours}.get(row.labels[1])
        assert row.entries[0].published == known
        gain = row.entries[1]
        if isinstance(gain, Delta) and row.labels[1] == "S2-SAM":
            assert gain.published == pytest.approx(ours - base)
    for config in table.runs():
        assert (config.base, config.dataset, config.model) == ("adam", "wmt14", "transformer_base")
        assert config.method.name == "dense" or config.method["distribution"] == "uniform-all"
        assert config.optimizer.get("rho", RHO_ADAM) == RHO_ADAM


def test_what_is_read_from_a_record() -> None:
    table = build()
    one = record(table)
    # The best validation BLEU of those evaluations that are as sparse as the last.
    assert chosen_bleu(one) == 26.0
    assert (last_chrf(one), validation_bleu(one), validation_loss(one)) == (56.0, 30.0, 1.5)
    assert unaveraged_bleu(one) == 28.0
    assert unaveraged_bleu(record(table, unaveraged_test_bleu=27.5)) == 27.5
    lost = Record(one.config, "diverged", one.body)
    values = (chosen_bleu, last_chrf, unaveraged_bleu, validation_bleu, validation_loss)
    assert all(value(lost) is None for value in values)


def test_the_radius_table_says_a_rule_and_names_what_it_reads(tmp_path: Path) -> None:
    table, records = build("ablation-translation-rho", "cpu"), Records(tmp_path)
    for n, config in enumerate(table.runs()):
        loss = 1.7234 + 0.001 * n
        line = {"epoch": 1, "sparsity": 0.0, "validation_bleu": 30.0, "validation_loss": loss}
        records.write(config, "finished", {**made_body(28.0, 28.0), "curve": [line]})
    page = markdown(table, records, PROFILES["cpu"])
    assert f"`rebuttal-translation` uses ρ = {RHO_ADAM:g}: {RHO_SOURCE}." in page
    assert "The rule is to take the one with the best validation BLEU" in page
    _, other = page.split("## Validation loss")
    assert "| validation loss |" in " ".join(other.split()) and "1.7244 ± 0.0010 (3)" in other
    assert "validation BLEU" not in other.split("## Notes")[0]


def test_rho_is_chosen_among_runs_that_differ_in_nothing_else() -> None:
    table = build("ablation-translation-rho", "cpu")
    assert [row.labels[0] for row in table.rows] == ["0 (Adam)", *(f"{r:g}" for r in RHOS)]
    used = {c.fingerprint for c in build(profile="cpu").runs()}
    # Adam's, and S2-SAM's at the radius in use, are those of the table that uses it.
    assert len(used & {c.fingerprint for c in table.runs()}) == 2 * len(PROFILES["cpu"].seeds)


def test_initial_weights_are_compared_with_the_run_of_the_table() -> None:
    table = build("ablation-translation-init", "cpu")
    assert [row.labels for row in table.rows] == [
        (label, name) for label in ("dense", "80%") for name in ("Adam", "S2-SAM")
    ]
    used = {c.fingerprint for c in build(profile="cpu").runs()}
    seeds = len(PROFILES["cpu"].seeds)
    for row in table.rows:
        xavier, scaled, delta = row.entries
        assert isinstance(xavier, Cell) and isinstance(scaled, Cell)
        assert delta == Delta(scaled, xavier)
        for one, other in zip(xavier.runs, scaled.runs, strict=True):
            assert one == replace(other, init="xavier") and one != other
    assert len(used & {c.fingerprint for c in table.runs()}) == 4 * seeds


def test_it_says_what_it_is_and_not_what_its_profile_is(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for name in ("rebuttal-translation", "ablation-translation-rho", "ablation-translation-init"):
        page = markdown(build(name, "cpu"), records, PROFILES["cpu"])
        assert "Profile `cpu`: Multi30k, English to German, a tiny Transformer, 20 epochs." in page
        baseline = "Xavier" if name.endswith("init") else "Adam"
        assert f"Δ: difference to {baseline}" in page and "About 5,200 steps" in page
        assert "CIFAR" not in page.replace("the paper's radius on CIFAR", "")
        smoke = markdown(build(name, "smoke"), records, PROFILES["smoke"])
        assert "**Not evidence.**" in smoke and "generated phrases" in smoke
    nothing = build(profile="cpu-bf16-12")
    assert "no translation" in markdown(nothing, records, PROFILES["cpu-bf16-12"])
    assert csv(nothing, records, PROFILES["cpu-bf16-12"]).strip() == ""
