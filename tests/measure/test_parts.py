import json
import math

import pytest

from paper_repro.measure.trained import Parts


def test_what_is_there_is_not_measured_again(tmp_path):
    path, asked = tmp_path / "deep" / "parts.json", []

    def measure(name):
        asked.append(name)
        if name == "c" and len(asked) == 3:
            raise KeyboardInterrupt
        return {"value": len(asked)}

    with pytest.raises(KeyboardInterrupt):
        Parts(path, "this").each(["a", "b", "c"], measure, desc="parts")
    found = Parts(path, "this").each(["a", "b", "c"], measure, desc="parts")
    assert asked == ["a", "b", "c", "c"]
    assert found == {"a": {"value": 1}, "b": {"value": 2}, "c": {"value": 4}}
    assert list(found) == ["a", "b", "c"]


def test_parts_of_something_else_are_thrown_away(tmp_path):
    path = tmp_path / "parts.json"
    Parts(path, "these weights").each(["a"], lambda _: 1, desc="parts")
    assert Parts(path, "other weights").each(["a"], lambda _: 2, desc="parts") == {"a": 2}
    assert Parts(path, "other weights").each(["a"], lambda _: 3, desc="parts") == {"a": 2}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"of": "x"}', b"\xff\xfe"])
def test_a_damaged_file_costs_no_more_than_its_parts(tmp_path, content):
    path = tmp_path / "parts.json"
    path.write_bytes(content)
    assert Parts(path, "x").each(["a"], lambda _: 1, desc="parts") == {"a": 1}
    assert json.loads(path.read_text())["parts"] == {"a": 1}


def test_a_number_that_is_not_finite_is_none_also_before_it_was_on_disk(tmp_path):
    path = tmp_path / "parts.json"
    first = Parts(path, "x").each(["a"], lambda _: [math.inf, 1.0], desc="parts")
    assert first == {"a": [None, 1.0]} == Parts(path, "x").each(["a"], None, desc="parts")


def test_without_a_file_nothing_is_kept_and_clear_removes_it(tmp_path):
    parts = Parts()
    assert parts.each(["a"], lambda _: 1, desc="parts") == {"a": 1}
    assert parts.each(["a"], lambda _: 2, desc="parts") == {"a": 2}  # of another measure, maybe
    parts.clear()
    kept = Parts(tmp_path / "parts.json")
    kept.each(["a"], lambda _: 1, desc="parts")
    kept.clear()
    assert list(tmp_path.iterdir()) == []
