import json
import math
from pathlib import Path

import pytest
from workplaces import made_body, tiny

from paper_repro.errors import UserError
from paper_repro.experiment import measures as module
from paper_repro.experiment.measures import Measures, read, spec_id
from paper_repro.experiment.records import Records
from paper_repro.measure import MEASURES

RESULTS = Path(__file__).parents[2] / "results"
COMMITTED = sorted(RESULTS.glob("*/measures/*.json"))
SPEC = MEASURES.spec("sharpness")
BODY = {"weights": "ab" * 32, "environment": {"commit": "c0ffee", "dirty": False}}


def written(folder, values=None, spec=SPEC):
    return Measures(folder).write(tiny(), spec, values or {"worst": 1.5}, BODY)


def test_a_measure_lies_beside_its_record_and_comes_back(tmp_path):
    measures = Measures(tmp_path)
    assert measures.get(tiny(), SPEC) is None
    one = written(tmp_path)
    path = measures.path(tiny(), SPEC)
    assert path.parent == Records(tmp_path).path(tiny()).parent / "measures" and path.exists()
    assert path.name == f"{tiny().fingerprint}.sharpness-{spec_id(SPEC)}.json"
    assert measures.get(tiny(), SPEC) == one == read(path)
    assert one.number("worst") == 1.5
    assert measures.get(tiny(seed=1), SPEC) is None
    assert measures.get(tiny(), MEASURES.spec("sharpness", rho=2)) is None
    Records(tmp_path).write(tiny(), "finished", made_body())
    assert [r.config for r in Records(tmp_path)] == [tiny()]  # a measure is no record


@pytest.mark.skipif(not COMMITTED, reason="no measures are committed")
@pytest.mark.parametrize("path", COMMITTED, ids=lambda p: p.stem)
def test_every_committed_measure_reads_back_and_is_of_a_committed_record(path):
    measured = read(path)
    assert (path.parents[1] / f"{measured.fingerprint}.json").exists()
    assert measured.body["environment"]["commit"]


def test_an_option_that_came_later_leaves_old_files_what_they_are(tmp_path, monkeypatch):
    written(tmp_path)
    path = Measures(tmp_path).path(tiny(), SPEC)

    def younger(
        trained,
        *,
        rho: float = 0.7,
        sigma: float = 0.1,
        steps: int = 20,
        draws: int = 10,
        samples: int = 1000,
        seed: int = 0,
        norm: str = "max",
    ):
        return {}  # fmt: skip

    younger.OPTION_BEFORE = {"norm": "two"}
    MEASURES["sharpness"]
    monkeypatch.setitem(MEASURES._members, "sharpness", younger)
    old = MEASURES.spec("sharpness", norm="two", rho=0.5)
    assert spec_id(old) == path.stem.rsplit("-", 1)[1]
    assert read(path).spec == old
    assert Measures(tmp_path).get(tiny(), old) is not None
    assert Measures(tmp_path).get(tiny(), MEASURES.spec("sharpness", rho=0.5)) is None


def test_values_that_are_not_finite_or_not_there(tmp_path):
    one = written(tmp_path, {"a": {"b": math.inf}, "c": True, "d": "x"})
    assert one.number("a", "b") is None
    for keys in (("a",), ("a", "x"), ("c",), ("d",), ("e",), ("a", "b", "c")):
        if keys == ("a", "b", "c"):
            with pytest.raises(UserError):
                one.number(*keys)
            continue
        with pytest.raises(UserError, match=f"has no number {'/'.join(keys)}"):
            one.number(*keys)


def changed(**changes):
    return lambda plain: {**plain, **changes}


def lacking(name):
    return lambda plain: {k: v for k, v in plain.items() if k != name}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda plain: [], "is not a measure"),
        (lambda plain: {}, "lacks 'fingerprint'"),
        (lacking("measure"), "lacks 'measure'"),
        (lacking("values"), "lacks 'values'"),
        (lacking("weights"), "lacks 'weights'"),
        (lacking("environment"), "lacks 'environment'"),
        (changed(environment={"dirty": True}), "lacks 'commit'"),
        (changed(values=[1.0]), "its values are list"),
        (changed(fingerprint="0123456789abcdef"), "of run 0123456789abcdef"),
        (changed(measure={"name": "magic"}), "unknown measure 'magic'"),
        (changed(measure={"name": "sharpness"}), "lacks 'draws'"),
        (changed(measure=None), "is not a measure"),
        (changed(measure={**SPEC.to_dict(), "rho": 3.0}), "it is the measure sharpness-"),
        (changed(measure={**SPEC.to_dict(), "rho": "wide"}), "must be a number"),
        (changed(measure={**SPEC.to_dict(), "size": 1}), "no option 'size'"),
    ],
)
def test_a_damaged_measure_is_refused_in_a_sentence_that_names_it(tmp_path, damage, said):
    written(tmp_path)
    path = Measures(tmp_path).path(tiny(), SPEC)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=said) as caught:
        Measures(tmp_path).get(tiny(), SPEC)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"NaN"])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    path = Measures(tmp_path).path(tiny(), SPEC)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match="is not a measure of a run"):
        module.read(path)
