"""A record that says what cannot be is named in a sentence, wherever records are read."""

import copy
import json
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workplaces import made_body, tiny

from paper_repro.cli import main as cli
from paper_repro.errors import UserError
from paper_repro.experiment.archive import export_records
from paper_repro.experiment.records import Records, parse, read
from paper_repro.experiment.schema import check_numbers


def plain(tmp_path):
    records = Records(tmp_path)
    records.write(tiny(), "finished", made_body())
    return records.path(tiny()), json.loads(records.path(tiny()).read_text())


BAD = {
    "accuracy nan": ('"last": 90.0', '"last": NaN'),
    "accuracy inf": ('"last": 90.0', '"last": Infinity'),
    "accuracy 1e999": ('"last": 90.0', '"last": 1e999'),
    "accuracy 400": ('"last": 90.0', '"last": 400'),
    "accuracy -3": ('"last": 90.0', '"last": -3'),
    "accuracy true": ('"last": 90.0', '"last": true'),
    "accuracy huge": ('"last": 90.0', '"last": 1' + "0" * 400),
    "accuracy endless": ('"last": 90.0', '"last": 1' + "0" * 9000),
    "accuracy of no curve": ('"last": 90.0', '"last": 89.0'),
    "best of no curve": ('"best": 91.0', '"best": 95.0'),
    "best below last": ('"best": 91.0', '"best": 12.0'),
    "no speed": ('"speed"', '"velocity"'),
    "speed of words": ('"seconds": 1.0', '"seconds": "long"'),
    "speed negative": ('"seconds": 1.0', '"seconds": -1'),
    "sparsity": ('"masked_layers": 0.9', '"masked_layers": 1.5'),
    "no curve": ('"curve"', '"line"'),
    "curve of words": ('"epoch": 1', '"epoch": "one"'),
    "an epoch too many": ('"epoch": 2', '"epoch": 2000'),
    "epochs twice": ('"epoch": 2', '"epoch": 1'),
    "threads": ('"commit": "c0ffee"', '"commit": "c0ffee", "threads": 0'),
    "dirty": ('"dirty": false', '"dirty": "no"'),
    "deep": ('"reason": null', '"reason": ' + "[" * 100_000 + "]" * 100_000),
    "a reason of numbers": ('"reason": null', '"reason": 3'),
}


@pytest.mark.parametrize(("old", "new"), BAD.values(), ids=BAD)
def test_a_record_that_cannot_be_is_refused(tmp_path, old, new):
    path, _ = plain(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match="is not a run's record: ") as caught:
        read(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 500
    sound, bad = Records(tmp_path).sound()
    assert not sound and bad == [str(caught.value)]


@given(st.data())
def test_whatever_a_record_holds_it_is_read_or_refused_in_a_sentence(tmp_path_factory, data):
    path, body = plain(tmp_path_factory.mktemp("records"))
    values = st.one_of(
        st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=3),
        st.lists(st.integers(), max_size=2),
        st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
    )  # fmt: skip
    changed = copy.deepcopy(body)
    where = changed
    while True:
        key = data.draw(
            st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where)))
        )
        if isinstance(where[key], dict | list) and where[key] and data.draw(st.booleans()):
            where = where[key]
            continue
        where[key] = data.draw(values)
        break
    try:
        record = parse(path, json.dumps(changed).encode())
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert 0 <= record.accuracy() <= record.accuracy("best") <= 100
        assert record.body["speed"]["seconds"] >= 0


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        [
            *("NaN", "-Infinity", "1e400", "-1E+400", "1e+0999", "2e308", "1.7e308", "1e-400"),
            *("0e0000", "9" * 400 + ".5", "0.1234567890123456789012345", "1" * 19),
        ]
    ),
)


@given(st.lists(NUMBERS, max_size=4), st.sampled_from([",", ", ", "\n,\t"]), st.booleans())
def test_only_what_needs_it_is_looked_at_number_by_number(numbers, comma, nested):
    inner = comma.join(numbers)
    text = '{"hash": "123e456f7e999",\n "x":[' + inner + "]}"
    if nested:
        text = '{"y": ' + text + (f',"z":{numbers[0]}' if numbers else "") + "}"
    value = json.loads(text)
    bad = [
        number
        for number in map(json.loads, numbers)
        if not math.isfinite(number) or (isinstance(number, int) and abs(number) > 2**63)
    ]
    if bad:
        with pytest.raises(ValueError, match="it holds"):
            check_numbers(value, text.encode())
    else:
        check_numbers(value, text.encode())


def test_records_are_read_one_at_a_time(tmp_path):
    records = Records(tmp_path)
    for seed in range(2):
        records.write(tiny(seed=seed), "finished", made_body())
    last = records.paths()[-1]
    reading = records.examined()
    assert next(reading).status == "finished"
    last.write_text("{}")
    assert "is not a run's record" in next(reading)


def test_status_names_the_bad_ones_and_shows_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records = Records(tmp_path / "results")
    records.write(tiny(), "finished", made_body())
    records.write(tiny(seed=1), "finished", {**made_body(), "speed": None})
    assert cli.main(["status"]) == 2
    shown = capsys.readouterr()
    assert "is not a run's record" in shown.err and tiny(seed=1).fingerprint in shown.err
    assert "smoke      1" in shown.out


@pytest.mark.slow
def test_thousands_of_records_are_read_in_seconds(tmp_path, one_thread):
    body = made_body()
    body["curve"] = [{**body["curve"][0], "epoch": n, "test_accuracy": 90.0} for n in range(1, 13)]
    body["accuracy"] = {"last": 90.0, "best": 90.0}
    records, config = Records(tmp_path / "results"), replace(tiny(), epochs=12)
    for seed in range(2000):
        records.write(replace(config, seed=seed), "finished", body)
    started = time.process_time()
    sound, bad = records.sound()
    reading = time.process_time() - started
    assert len(sound) == 2000 and not bad
    started = time.process_time()
    assert export_records(records, tmp_path / "all.tar.gz") == (2000, 0)
    # 20,000 in a few seconds of a quiet machine; here with room for a busy one.
    assert reading < 1.5 and time.process_time() - started < 2.0
