"""The section on trained networks: read from measures, written alone, and absent without any."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paper_repro.config import RunConfig
from paper_repro.errors import UserError
from paper_repro.experiment.measures import Measures
from paper_repro.measure import MEASURES
from theory import networks as module
from theory.__main__ import main
from theory.networks import load
from theory.report import refresh, table
from theory.sections.networks import HEADING, networks_section

NOISE = {
    "norm": 2.0, "square": 5.0, "signal": 1.0, "noise_share": 0.8, "sam": 0.25, "s2sam": -0.01,
    "sam_along": 0.1, "s2sam_along": 0.0, "batches": 32,
}  # fmt: skip
LATE = {
    "spread": 0.005, "spread_std": 0.001, "law": 0.004, "variance_w": 1.0, "length": 2.0,
    "square": 5.0, "buffer": 25.0, "reach": 2.5, "repeats": 2,
}  # fmt: skip
BODY = {"weights": "0" * 64, "environment": {"commit": "c", "dirty": False}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two runs' records and measures, where the section looks for them."""
    monkeypatch.setattr(module, "_RESULTS", tmp_path)
    written = Measures(tmp_path)
    home = Path(module.__file__).parent.parent
    for path in sorted((home / "results" / "pilot").glob("*.json")):
        body = json.loads(path.read_text())
        config = RunConfig.from_dict(body["config"])
        if config.train_size != 5000 or config.optimizer.name == "sam":
            continue
        (tmp_path / "pilot").mkdir(exist_ok=True)
        (tmp_path / "pilot" / path.name).write_text(path.read_text())
        written.write(config, MEASURES.spec("gradient_noise"), NOISE, BODY)
        if config.optimizer.name == "s2sam":
            found = {"active": 50.0, "all": 80.0}
            written.write(config, MEASURES.spec("curvature"), found, BODY)
            written.write(config, MEASURES.spec("late_training"), LATE, BODY)
            spec = MEASURES.spec("late_training", lr=0.1, momentum=0.0)
            written.write(config, spec, {**LATE, "spread": -0.01}, BODY)
            written.write(config, MEASURES.spec("sharpness"), {"worst": 1.0}, BODY)
    return tmp_path


def test_measures_are_read_with_their_runs(folder):
    first, second = load(folder)
    assert [first.label, second.label] == ["S2-SAM 0.05, 5000 images", "SGD, 5000 images"]
    assert first.bed == "resnet20 on cifar10, mest at 90%"
    assert first.curvature == (50.0, 80.0) and second.curvature is None
    assert first.noise == NOISE and first.rho == 0.05
    assert [(x.eta, x.beta) for x in first.late] == [(0.1, 0.0), (0.01, 0.9)]


def test_the_section_says_what_follows_from_the_numbers(folder):
    text = networks_section(load(folder), table)
    assert text.startswith(HEADING + "\n") and "nan" not in text
    # rho h / |g| = 0.05 * 50 / 2 = 1.25 > 1: no step is stable; SGD's is 3.8 / 50.
    row = next(line for line in text.splitlines() if line.startswith("| S2-SAM") and "1.25" in line)
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1:8] == ["2.00", "0.800", "1.000", "0.5000", "0.0000", "+0.100", "+0.000"]
    assert cells[8:] == ["50", "80", "1.25", "0.076", "0", "32"]
    assert "gradient in 2 of 2 networks" in text
    assert "in 1 of 1 networks" in text
    assert "+2.00 ± 0.40" in text and "-4.00 ± 0.40" in text
    assert "The sign is the law's in 1 of 2." in text


def test_what_was_not_measured_is_not_spoken_of(folder):
    _, sgd = load(folder)
    text = networks_section([sgd], table)
    assert "has not been measured yet" in text
    assert "0 of 0" not in text and "**Stability" not in text


def test_without_measures_it_says_how_to_make_them(tmp_path):
    text = networks_section(load(tmp_path), table)
    assert "No trained network has been measured" in text and "networks.png" not in text


def test_only_the_section_is_written_anew(folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    report = out / "report.md"
    report.write_text(f"# Title\n\nbefore\n\n{HEADING}\n\nold\n\n## After\n\nkept\n")
    assert main(["--networks", "--out", str(out)]) == 0
    text = report.read_text()
    assert text.startswith("# Title\n\nbefore\n\n" + HEADING)
    assert text.endswith("\n\n## After\n\nkept\n") and "old" not in text
    assert (out / "figures" / "networks.png").read_bytes().startswith(b"\x89PNG")
    assert refresh(out).read_text() == text
    assert str(report) in capsys.readouterr().out


def test_bad_input_is_one_sentence_and_status_2(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--networks", "--out", str(tmp_path / "empty")])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "is no report with a section on trained networks" in said and said.count("\n") == 1
    broken = next((folder / "pilot" / "measures").glob("*curvature*"))
    broken.write_text("{}")
    with pytest.raises(UserError, match="is not a measure of a run"):
        load(folder)


def test_a_network_that_drifts_less_with_sam_is_counted_so(folder):
    first, second = load(folder)
    turned = replace(second, noise={**NOISE, "sam": 0.0, "s2sam": 0.1})
    assert "gradient in 1 of 2 networks" in networks_section([first, turned], table)
