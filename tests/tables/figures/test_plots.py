"""The figures that are drawn from records: what they show, and that they show nothing else."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workplaces import made_body

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.caution import NO_EVIDENCE, cautions
from tables.figures import FIGURES
from tables.figures.__main__ import main
from tables.figures.cost import front
from tables.figures.forest import differences
from tables.figures.style import svg
from tables.verdicts.part import optimizers
from tables.verdicts.parts import CONTROL

CPU, SMOKE, PAPER = profile("cpu"), profile("smoke"), profile("paper")
PLOTS = ("cost", "curves", "densities", "diagnostics", "forest", "sparsity")


def fill(folder, table, size, keep=lambda config: True):
    """Records of a table's runs: SGD about 80 %, others about a point above."""
    records = Records(folder)
    for config in TABLES.build(Spec(table), profile=size).runs():
        if keep(config):
            noise = np.random.default_rng(int(config.fingerprint, 16)).normal(0, 0.2)
            last = 80 + noise + (config.optimizer.name != "sgd")
            body = made_body(last=last, best=last)
            twice = config.optimizer.name == "sam"
            body["speed"].update(gradients_per_step=2.0 if twice else 1.0, forwards_per_step=0.0)
            for line in body["curve"]:
                line["train_loss"] = 2.0 / line["epoch"]
            records.write(config, "finished", body)
    return records


def drawn(family, size, records):
    return dict(FIGURES.build(Spec(family), profile=size, records=records))


@pytest.mark.parametrize("family", PLOTS)
def test_with_nothing_to_show_it_says_so_and_writes_nothing(family, tmp_path, capsys):
    assert main([family, "--profile", "cpu", "--results", str(tmp_path)]) == 1
    assert f"{family}: nothing measured yet to draw" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*"))


def test_png_and_svg_are_the_same_for_the_same_records(tmp_path, capsys):
    fill(tmp_path, "control", CPU)
    digests = []
    for _ in range(2):
        assert main(["forest", "--profile", "cpu", "--results", str(tmp_path)]) == 0
        files = sorted((tmp_path / "cpu" / "figures").iterdir())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert [path.name for path in files] == ["forest.png", "forest.svg"]
    assert digests[0] == digests[1]


def test_the_forest_has_every_measured_cell_its_mean_and_n(tmp_path):
    records = fill(tmp_path, "table1", CPU, lambda c: c.dataset == "cifar10" and c.seed < 3)
    axes = drawn("forest", CPU, records)["forest"].axes[0]
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    headings = [text.get_text() for text in axes.texts]
    shown = {heading for heading in headings if "of" in heading}
    assert "Table 1, CIFAR-10 (24 of 24 cells measured)" in shown
    assert not any("CIFAR-100" in heading for heading in shown)
    assert {"SNIP 90%", "LT 98%", "mean Δ"} <= set(rows)
    value = next(t for t in headings if re.fullmatch(r"[+-]\d\.\d\d \(n = 2\)", t))
    assert value  # two seeds each, from 1 and 2
    assert any("cells)" in text for text in headings)
    labels = [row for row in rows if row]
    assert len(labels) == len(set(labels))  # R6's cells that Table 1 has are not drawn again
    assert not any(heading.startswith("R6") for heading in shown)
    alt = drawn("forest", CPU, records)["forest"].get_label()
    assert "Mean of S2-SAM minus SGD" in alt and "points over 24 cells" in alt


def test_the_forest_counts_s2sam_alone_and_its_intervals_are_of_one_spread(tmp_path):
    fill(tmp_path, "ablation-lrr", CPU)
    figure = drawn("forest", CPU, fill(tmp_path, "control", CPU))["forest"]
    (axes,) = figure.axes
    parts = [CONTROL.deltas(CPU), differences(CPU)["R3: LRR by sparsity"]]
    parts.append(optimizers("control", "S2-SAM", "SGD")(CPU))
    arms = {c.runs for part in parts for d in part.values() for c in (d.treatment, d.baseline)}
    legend = " ".join(t.get_text() for t in axes.get_legend().get_texts())
    assert f"({2 * len(arms)} df)" in legend.replace("\n", " ")
    alt = figure.get_label()
    assert "Of S2-SAM: 5, " in alt and "Of SAM: 2, 2 of them above 0." in alt
    # Cells of a seed are not independent: no interval of their mean.
    row = [tick.get_text() for tick in axes.get_yticklabels()].index("mean Δ")
    at = [line for line in axes.lines if set(line.get_ydata()) == {row}]
    assert [line.get_marker() for line in at] == ["D"] and "±" not in alt


def test_every_claims_difference_has_a_row_of_its_own():
    found = differences(PAPER)
    assert [len(cells) for cells in found.values()] == [24, 24, 8, 3, 3]


def test_published_numbers_are_drawn_only_where_records_are_evidence(tmp_path):
    for size, panels in ((CPU, 2), (SMOKE, 1)):
        records = fill(tmp_path, "ablation-sweep", size)
        figure = drawn("sparsity", size, records)["sparsity-mest"]
        assert len(figure.axes) == panels
        assert ("published" in "".join(a.get_title() for a in figure.axes)) == (panels == 2)


def test_every_seed_is_a_dot(tmp_path):
    records = fill(tmp_path, "ablation-sweep", CPU)
    axes = drawn("sparsity", CPU, records)["sparsity-mest"].axes[0]
    dots = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in dots] == [8 * 3, 8 * 3]


def test_curves_are_of_the_runs_and_say_n(tmp_path):
    records = fill(tmp_path, "table4", CPU)
    figures = drawn("curves", CPU, records)
    assert set(figures) == {"curves-grasp", "curves-rigl", "curves-mest"}
    labels = {
        text.get_text()
        for axes in figures["curves-mest"].axes
        if axes.get_legend()
        for text in axes.get_legend().get_texts()
    }
    assert labels == {"SGD (n = 3)", "S2-SAM (n = 3)", "SAM (n = 3)"}
    assert "2.000" not in figures["curves-mest"].get_label()
    assert "SGD 1.000 (n = 3)" in figures["curves-mest"].get_label()


def test_cost_has_the_front_of_the_means(tmp_path):
    records = fill(tmp_path, "ablation-sam", CPU, lambda c: c.optimizer.name in ("sgd", "sam"))
    figure = drawn("cost", CPU, records)["cost"]
    assert "SGD (" in figure.get_label() and "SAM (" in figure.get_label()
    assert {line.get_xdata()[0] for line in figure.axes[0].lines} == {1.0, 2.0}


points = st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float))


@given(st.lists(points, min_size=1, max_size=12))
def test_nothing_beats_the_front_and_it_beats_the_rest(given_points):
    best = front(given_points)
    assert best

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    for i, point in enumerate(given_points):
        beaten = any(beats(other, point) for other in given_points)
        assert (i in best) == (not beaten)
    costs = [given_points[i][0] for i in best]
    assert costs == sorted(costs)


def test_a_figure_carries_its_profiles_cautions_and_its_description(tmp_path):
    records = fill(tmp_path, "control", SMOKE)
    text = svg(drawn("forest", SMOKE, records)["forest"], SMOKE).decode()
    assert "Not evidence" in text and "Forest plot of" in text
    records = fill(tmp_path, "control", CPU)
    text = svg(drawn("forest", CPU, records)["forest"], CPU).decode()
    assert "Trained on wrong labels: 40%" in text and "Not evidence" not in text


def test_cautions_follow_from_what_a_profile_is():
    assert cautions(SMOKE) == (NO_EVIDENCE,)
    assert cautions(PAPER) == ()
    (wrong,) = cautions(CPU)
    assert "40% of the training labels of CIFAR-10 and CIFAR-100 are another class's" in wrong
    (coarse,) = cautions(profile("cpu-bf16-12"))
    assert "bfloat16 (CIFAR-10)" in coarse


def test_diagnostics_are_of_the_runs_that_have_them(tmp_path):
    records = fill(tmp_path, "control", CPU)
    assert drawn("diagnostics", CPU, records) == {}
    config = next(c for c in TABLES.build(Spec("control"), profile=CPU).runs() if c.sparsity == 0.9)
    body = records.get(config).body
    for line, churn in zip(body["curve"], (0.25, 0.125), strict=True):
        line["diagnostics"] = {"churn": churn, "cosine": None}
    records.write(config, "finished", body)
    figure = drawn("diagnostics", CPU, records)["diagnostics-mest"]
    (axes,) = figure.axes  # no cosine, no panel
    (line,) = axes.lines
    assert list(line.get_ydata()) == [0.25, 0.125] and "Runs: SGD 1." in figure.get_label()


def test_loss_rises_are_drawn_together_only_where_they_are_of_one_rho(tmp_path):
    records = fill(tmp_path, "control", CPU, lambda c: c.seed == 1 and c.sparsity == 0.9)
    runs = {
        c.optimizer.name: c
        for c in TABLES.build(Spec("control"), profile=CPU).runs()
        if c.seed == 1 and c.sparsity == 0.9
    }

    def rises(rho):
        for name, own in (("sgd", 0.1), ("s2sam", rho)):
            body = records.get(runs[name]).body
            for line in body["curve"]:
                line["diagnostics"] = {"churn": 0.1, "rise_s2sam": 0.2, "rise_sam": 1.5, "rho": own}
            records.write(runs[name], "finished", body)
        return drawn("diagnostics", CPU, records)["diagnostics-mest"]

    together = rises(0.1)
    labels = [axes.get_ylabel().replace("\n", " ") for axes in together.axes]
    assert labels[1:] == [
        "loss rise along S2-SAM's (nats, ρ = 0.1)",
        "loss rise along SAM's (nats, ρ = 0.1)",
    ]
    assert "the loss's rise along each at ρ = 0.1. Runs: SGD 1, S2-SAM 1." in together.get_label()
    apart = rises(0.05)
    assert len(apart.axes) == 1
    why = "Loss rises are not drawn together: they are at different ρ (SGD 0.1, S2-SAM 0.05)."
    assert why in apart.get_label() and why in apart.axes[-1].get_xlabel().replace("\n", " ")


def test_densities_are_means_over_seeds_by_layer(tmp_path):
    records = fill(tmp_path, "control", CPU)
    assert drawn("densities", CPU, records) == {}
    for config in TABLES.build(Spec("control"), profile=CPU).runs():
        if config.optimizer.name == "sgd":
            body = records.get(config).body
            body["layer_densities"] = {"a": 0.1 * config.seed, "b": 0.5}
            records.write(config, "finished", body)
    axes = drawn("densities", CPU, records)["densities"].axes[0]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.2, 0.5])
    assert axes.get_title() == "MEST(EM) (n = 3)"
    config = next(c for c in TABLES.build(Spec("control"), profile=CPU).runs() if c.sparsity)
    body = records.get(config).body
    other = next(
        c
        for c in TABLES.build(Spec("control"), profile=CPU).runs()
        if c.sparsity and c.optimizer.name == "s2sam"
    )
    records.write(other, "finished", {**body, "layer_densities": {"a": 0.2, "b": 0.4}})
    figure = drawn("densities", CPU, records)["densities"]
    assert figure.axes[0].get_title() == "MEST(EM) (n: SGD 3, S2-SAM 1)"
    assert "MEST(EM) 20.00% to 50% (n: SGD 3, S2-SAM 1)" in figure.get_label()
