"""The tables as experiments: every one can be built at every size, and compares what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from workplaces import made_body

from paper_repro.experiment.profiles import PROFILES
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Delta, Table
from tables.compare import RHO
from tables.render import csv, latex, markdown
from tables.report.shown import grids


def build(name: str, profile: str) -> Table:
    table: Table = TABLES.build(Spec(name), profile=PROFILES[profile])
    return table


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_builds_at_every_size(name: str, profile: str) -> None:
    table = build(name, profile)
    width = len(table.headers)
    assert table.name == name
    assert all(len(row.labels) + len(row.entries) == width for row in table.rows)
    runs = list(table.runs())
    size = PROFILES[profile]
    untranslated = "translation" in name and "wmt14" not in size.datasets
    absent = name in ("table2", "table3") and "imagenet" not in size.datasets
    assert runs or name in ("claims", "flops", "pilot") or untranslated or absent
    assert len({c.fingerprint for c in runs}) == len(runs)
    of = "pilot" if name == "pilot" else size.runs_as or size.name
    assert all(c.profile == of for c in runs)


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_is_latex_that_any_engine_reads(
    tmp_path: Path, name: str, profile: str
) -> None:
    tex = latex(build(name, profile), Records(tmp_path), PROFILES[profile])
    assert {c for c in tex if ord(c) > 127} == set()
    assert tex.count("{") == tex.count("}")


@pytest.mark.parametrize("name", list(TABLES))
def test_a_difference_is_between_runs_that_differ_in_one_decision(name: str) -> None:
    for row in build(name, "paper").rows:
        for delta in row.entries:
            if not isinstance(delta, Delta) or not delta.treatment.runs:
                continue
            for ours, theirs in zip(delta.treatment.runs, delta.baseline.runs, strict=True):
                a, b = ours.to_dict(), theirs.to_dict()
                # The released code's weight-decay mismatch is an ablation's very point.
                differing = {k for k in a if a[k] != b[k]} - {"weight_decay"}
                # When its ρ begins to act is a part of the optimizer.
                alone = ({"precision"}, {"init"})
                assert differing <= {"optimizer", "rho_start"} or differing in alone
                assert ours.seed == theirs.seed


def test_ratio_as_published_is_not_at_one_sparsity_but_trimmed_is() -> None:
    rows = [row for row in build("ablation-ratio", "paper").rows if row.labels[1] == "SGD"]
    published = [round(row.entries[0].runs[0].sparsity, 3) for row in rows]
    trimmed = [row.entries[1].runs[0].sparsity for row in rows]
    assert published == [0.914, 0.882, 0.870]
    assert trimmed == [0.9, 0.9, 0.9]


def test_sweep_covers_the_sparsities_of_r6_with_their_published_numbers() -> None:
    rows = build("ablation-sweep", "paper").rows
    assert [row.entries[0].runs[0].sparsity for row in rows if row.labels[1] == "SGD"] == [
        0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98,
    ]  # fmt: skip
    gains = [row.entries[0].published for row in rows if row.labels[1] == "Δ"]
    assert gains == [0.41, 0.32, 0.46, 0.53, 0.65, 0.87, 0.43, 2.00]


def test_precision_compares_three_optimizers_in_each_on_the_same_seeds() -> None:
    for profile in ("smoke", "cpu", "paper"):
        table = build("ablation-precision", profile)
        runs = list(table.runs())
        assert {(c.optimizer.name, c.precision) for c in runs} == {
            (optimizer, precision)
            for optimizer in ("sgd", "sam", "s2sam")
            for precision in ("float32", "tf32", "bf16")
        }
        assert {(c.method.name, c.sparsity) for c in runs} == {("mest", 0.9)}
        assert len(runs) == 9 * len(PROFILES[profile].seeds)
    # What a profile trains in is among them, so that those runs are other tables' too.
    for profile in ("smoke", "cpu", "paper"):
        own = {c.fingerprint for c in build("ablation-precision", profile).runs()}
        assert own & {c.fingerprint for c in build("ablation-sam", profile).runs()}


def test_noise_compares_three_optimizers_at_each_fraction_of_wrong_labels() -> None:
    for profile in ("smoke", "cpu", "paper"):
        table = build("ablation-noise", profile)
        runs = list(table.runs())
        assert {(c.optimizer.name, c.label_noise) for c in runs} == {
            (optimizer, noise)
            for optimizer in ("sgd", "sam", "s2sam")
            for noise in (0.0, 0.2, 0.4, 0.6)
        }
        # Of each profile's own runs one column is another table's too.
        assert {c.fingerprint for c in runs} & {
            c.fingerprint for c in build("ablation-sam", profile).runs()
        }
        for row in table.rows:
            for header, entry in zip(table.headers[2:], row.entries, strict=True):
                first = entry.treatment if isinstance(entry, Delta) else entry
                assert {f"{c.label_noise:.0%} wrong" for c in first.runs} == {header}


def test_table_4_shares_its_runs_of_sgd_and_s2sam_with_table_1() -> None:
    wanted = {c.fingerprint for c in build("table1", "paper").runs()}
    runs = list(build("table4", "paper").runs())
    assert {c.method.name for c in runs} == {"grasp", "rigl", "mest"}
    assert {c.optimizer.name for c in runs} == {"sgd", "sam", "s2sam", "released"}
    for c in runs:
        assert c.sparsity == 0.9 and c.dataset == "cifar10"
        assert (c.fingerprint in wanted) == (c.optimizer.name in ("sgd", "s2sam"))


def test_rho_covers_two_decades_around_the_papers() -> None:
    rhos = [float(row.labels[0]) for row in build("ablation-rho", "paper").rows[1:]]
    assert max(rhos) / min(rhos) >= 100 and RHO in rhos


def test_lrr_is_a_chain_of_its_own_down_to_dense_training() -> None:
    config = next(c for c in build("ablation-lrr", "paper").runs() if c.sparsity == 0.9)
    names = []
    parent = config.parent()
    while parent is not None:
        names.append(parent.method.name)
        parent = parent.parent()
    assert names == ["lrr"] * 10 + ["dense"]


def test_sam_ablation_has_the_paper_radius_for_both_of_its_methods() -> None:
    rows = {row.labels[0]: row for row in build("ablation-sam", "paper").rows}
    for label in ("S2-SAM", "SAM"):
        assert rows[label].entries[0].runs[0].optimizer["rho"] == RHO
    assert rows["ASAM"].entries[0].runs[0].optimizer["adaptive"] is True
    assert {"SGD", "MSAM", "ESAM", "LookSAM", "SAF", "SSAM", "ZO-SAM"} <= set(rows)
    assert {"AsyncSAM", "F-SAM"} <= set(rows)


def test_sam_ablation_has_the_controls_of_s2sams_direction() -> None:
    rows = {row.labels[0]: row.entries[0].runs[0] for row in build("ablation-sam", "paper").rows}
    own = rows["S2-SAM"]
    assert rows["S2-SAM, ρ < 0"].optimizer["rho"] == -own.optimizer["rho"]
    assert rows["random direction"].optimizer.name == "randomsam"
    assert rows["random direction"].optimizer["rho"] == own.optimizer["rho"]
    for label in ("S2-SAM", "SAM"):
        late = rows[f"{label}, late phase"]
        assert late.optimizer == rows[label].optimizer
        assert (late.rho_start, rows[label].rho_start) == (0.9, 0.0)


def test_the_radius_of_msam_is_its_authors_where_the_network_is_of_their_size() -> None:
    for name in ("paper", "cpu", "smoke"):
        rows = {row.labels[0]: row for row in build("ablation-sam", name).rows}
        assert rows["MSAM"].entries[0].runs[0].optimizer == PROFILES[name].optimizer("msam")
    radii = [PROFILES[name].optimizer("msam")["rho"] for name in ("paper", "cpu", "smoke")]
    assert radii == [3.0, 0.3, 0.1]
    assert PROFILES["smoke"].optimizer("msam", rho=0.7)["rho"] == 0.7


def test_the_control_has_sam_dense_and_sparse_and_shares_its_other_runs() -> None:
    rows = {row.labels: row.entries[0].runs for row in build("control", "paper").rows}
    assert [labels for labels in rows if labels[1] == "SAM"] == [("0%", "SAM"), ("90%", "SAM")]
    assert rows["0%", "SAM"][0].method.name == "dense"
    others = ("ablation-sweep", "ablation-sam")
    known = {c.fingerprint for name in others for c in build(name, "paper").runs()}
    for labels, runs in rows.items():
        assert (runs[0].fingerprint in known) == (labels != ("0%", "SAM"))


@pytest.mark.parametrize("profile", ["cpu", "paper"])
def test_weight_decay_is_a_two_by_two_table_at_each_sparsity(profile: str) -> None:
    rows = build("ablation-weight-decay", profile).rows
    assert [row.labels[0] for row in rows] == ["98%"] * 5 + ["95%"] * 5
    for sparsity, block in ((0.98, rows[:5]), (0.95, rows[5:])):
        sgd, s2sam, fair, released, _ = (row.entries for row in block)
        cells = [e for row in (sgd, s2sam) for e in row[:2]]
        assert [
            (c.runs[0].optimizer.name, c.runs[0].weight_decay, c.runs[0].sparsity) for c in cells
        ] == [(name, decay, sparsity) for name in ("sgd", "s2sam") for decay in (1e-4, 5e-4)]
        assert [(d.treatment.runs, d.baseline.runs) for d in fair[:2]] == [
            (s2sam[i].runs, sgd[i].runs) for i in (0, 1)
        ]
        assert (fair[2].first, fair[2].second) == (fair[1], fair[0])
        assert (released[1].treatment.runs, released[1].baseline.runs) == (
            s2sam[1].runs,
            sgd[0].runs,
        )
        assert released[1].published == pytest.approx(s2sam[1].published - sgd[0].published)
    assert (rows[0].entries[0].published, rows[1].entries[1].published) == (89.22, 91.22)
    assert (rows[5].entries[0].published, rows[6].entries[1].published) == (91.15, 91.58)


def test_weight_decay_of_the_project_is_the_sweeps_runs() -> None:
    sweep = {c.fingerprint for c in build("ablation-sweep", "paper").runs()}
    for config in build("ablation-weight-decay", "paper").runs():
        assert (config.fingerprint in sweep) == (config.weight_decay == 5e-4)


def test_the_judged_row_speaks_once_there_are_three_seeds(tmp_path: Path) -> None:
    records = Records(tmp_path)
    table = build("ablation-weight-decay", "paper")
    means = {("sgd", 1e-4): 89.0, ("sgd", 5e-4): 90.0, ("s2sam", 1e-4): 89.5, ("s2sam", 5e-4): 91.0}
    for c in table.runs():
        last = means[c.optimizer.name, c.weight_decay] + 0.1 * (c.seed - 1)
        records.write(c, "finished", made_body(last=last))
    fair, released, interaction = (e.say(records) for e in table.rows[4].entries)
    assert fair.startswith("mean Δ at equal weight decay: +0.75 [")
    assert released.startswith("Δ as released: +2.00 [") and "interaction: +0.50 [" in interaction
    page = markdown(table, records, PROFILES["paper"])
    assert "+0.50 [+0.50, +0.50] (3)" in page and page.count("judged as in claims") == 2
    # What is said of the last epoch does not stand among best ones.
    for c in table.runs():
        body = records.get(c).body
        best = body["accuracy"]["last"] + 1.0 + 0.1 * c.seed
        records.write(c, "finished", made_body(last=body["accuracy"]["last"], best=best))
    page = markdown(table, records, PROFILES["paper"])
    assert "## Best epoch" in page and page.count("judged as in claims") == 2
    assert csv(table, records, PROFILES["paper"]).count("mean Δ at equal weight decay: +0.75") == 2
    *_, best = grids(table, records, PROFILES["paper"], tmp_path)
    assert best.title.startswith("Best epoch") and len(best.rows) == 8
