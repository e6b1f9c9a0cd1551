import hashlib
import math

import pytest
from workplaces import made_body

from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import PROFILES, profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Cell
from tables.figures import FIGURES
from tables.figures.__main__ import main
from tables.figures.surfaces import _plain, _ra
from tables.render import markdown
from tables.surfaces import LABELS, SPARSITIES, size_of

VALUES = {
    "surface": {
        "ra": 1.5,
        "ra_std": 0.1,
        "ra_each": [1.4, 1.6],
        "loss": 0.25,
        "axis": [-1.0, 0.0, 1.0],
        "heights": [[2.0, 1.0, 2.0], [1.0, 0.25, 1.0], [2.0, 1.0, None]],
    },
    "sharpness": {"loss": 0.25, "worst": 3.5, "average": 0.125, "average_std": 0.1, "draws": 10},
    "spectrum": {
        "largest": 12.5,
        "smallest": -1.0,
        "trace": 99.0,
        "trace_std": 1.0,
        "dimension": 9,
        "grid": [-1.0, 0.0, 12.5],
        "density": [0.1, 0.8, 0.1],
    },
}


def build(size):
    return TABLES.build(Spec("surfaces"), profile=profile(size))


def fill(folder, size, only=lambda config: True):
    for config, spec in build(size).measures():
        if only(config):
            Records(folder).write(config, "finished", made_body())
            where = {"commit": "c0ffee", "dirty": False, "device": "a device"}
            body = {"weights": "", "environment": where}
            Measures(folder).write(config, spec, VALUES[spec.name], body)


@pytest.mark.parametrize("size", list(PROFILES))
def test_it_has_the_papers_networks(size):
    table = build(size)
    per = len(LABELS) * len(SPARSITIES) * 2
    seeds = size_of(profile(size)).seeds or len(profile(size).seeds)
    assert len(list(table.runs())) == per * seeds
    # Three measures each, and the unrestricted surface of one pair.
    assert len(list(table.measures())) == (3 * per + 2) * seeds
    for row in table.rows:
        for entry in row.entries:
            if isinstance(entry, Cell):
                for config in entry.runs:
                    assert f"{config.sparsity:.0%}" == row.labels[1]
                    assert config.optimizer.name == ("sgd" if row.labels[2] == "SGD" else "s2sam")


def test_each_column_reads_its_own_number(tmp_path):
    fill(tmp_path, "cpu")
    page = markdown(build("cpu"), Records(tmp_path), profile("cpu"))
    line = next(x for x in page.splitlines() if x.startswith("| SNIP") and "| SGD" in x)
    numbers = [c.split()[0] for c in line.strip("|").split("|")[3:]]
    assert numbers == ["1.50", "0.2500", "3.500", "0.125", "12.50", "99.0"]
    line = next(x for x in page.splitlines() if "unrestricted" in x and "| SGD" in x)
    assert "1.50" in line and line.count("–") == 5


def test_figures_are_drawn_from_what_is_measured_and_say_ra_and_n(tmp_path, capsys):
    assert main(["--results", str(tmp_path)]) == 1
    assert "nothing measured yet" in capsys.readouterr().out
    fill(tmp_path, "smoke", lambda config: config.method.name == "mest" and config.sparsity < 0.95)
    drawn = dict(
        FIGURES.build(Spec("surfaces"), profile=profile("smoke"), records=Records(tmp_path))
    )
    assert set(drawn) == {"surface-mest", "contour-mest", "spectrum-mest"}
    titles = {axes.get_title() for axes in drawn["surface-mest"].axes}
    measured = "drawn: seed 0, pair 1, Ra 1.4\nmean of 2 pairs: 1.5 ± 0.14"
    both = ("SGD", "S2-SAM")
    assert titles == {f"{o}, {s}\n{measured}" for o in both for s in ("80%", "90%")} | {
        f"{o}, {s}\nnot measured" for o in both for s in ("95%", "98%")
    }
    # In equal ratios: powers of ten are evenly spaced on the axis of heights.
    shown = next(axes for axes in drawn["surface-mest"].axes if "not" not in axes.get_title())
    assert shown.get_zlim() == pytest.approx((math.log10(0.25), math.log10(2.0)))
    assert [t.get_text() for t in shown.get_zticklabels()] == ["1"]
    assert shown.get_zlabel() == "loss (nats, log)"
    words = {name: figure.get_label() for name, figure in drawn.items()}
    assert words["surface-mest"].startswith("Loss surface: MEST(EM), digits. Each panel: the loss")
    assert words["contour-mest"].startswith("Contours of the loss (nats): MEST(EM), digits.")
    for name in ("surface-mest", "contour-mest"):
        flat = [axes for axes in drawn[name].axes if axes.has_data()]
        assert {(a.get_xlabel(), a.get_ylabel()) for a in flat} == {("filter norms",) * 2}
        assert "SGD, 80%, drawn: seed 0, pair 1, Ra 1.4, mean of 2 pairs: 1.5 ± 0.14" in words[name]
    assert "80% SGD 12 (n = 1); 80% S2-SAM 12 (n = 1)" in words["spectrum-mest"]
    assert main(["surfaces", "--results", str(tmp_path)]) == 0
    folder = tmp_path / "smoke" / "figures"
    assert {p.name for p in folder.iterdir()} == {
        f"{name}.{suffix}" for name in drawn for suffix in ("png", "svg")
    }
    svg = (folder / "surface-mest.svg").read_text()
    assert "Not evidence" in svg and "mean of 2 pairs: 1.5" in svg

    def digest():
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}

    first = digest()
    assert main(["surfaces", "--results", str(tmp_path)]) == 0
    assert digest() == first  # the same records make the same files


def test_bad_input_is_one_sentence_and_status_2(tmp_path, capsys):
    assert main(["nope", "--results", str(tmp_path)]) == 2
    assert "unknown figure 'nope'; known are " in capsys.readouterr().err
    assert main(["--profile", "huge"]) == 2


def test_a_surface_without_ra_says_so(tmp_path):
    fill(tmp_path, "smoke")
    (config, spec) = next(iter(build("smoke").measures()))
    there = Measures(tmp_path).get(config, spec)
    there.values["ra_each"] = [None, 2.0]
    drawn, mean = _ra({4: there}).splitlines()
    assert drawn == "drawn: seed 4, pair 1, Ra not finite"
    assert mean == "mean of 1 finite of 2 pairs: 2.0"
    assert _ra({4: there, 5: there}).endswith("mean of 2 finite of 4 pairs of 2 seeds: 2.0 ± 0")
    there.values["ra_each"] = [None, None]
    assert _ra({4: there}).endswith("no pair's Ra is finite")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5e-05, "0.000050"),
        (0.0, "0"),
        (0.1373, "0.14"),
        (1.5, "1.5"),
        (99.4, "99"),
        (99.6, "100"),
        (226.6, "227"),
        (4321.0, "4321"),
    ],
)
def test_numbers_in_titles_have_no_exponent(value, text):
    assert _plain(value) == text
