"""A record and its run trained again: what is said where no one run could repeat it."""

import pytest
from workplaces import tiny, workplace

from paper_repro.experiment.again import compare
from paper_repro.experiment.runs import execute

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_that_went_on_elsewhere_is_said_to_be_no_run_to_repeat(tmp_path):
    place, config = workplace(tmp_path), tiny()
    record = execute(config, place)
    assert compare(record, record).lines == ()
    there = {"device_type": "cuda", "engine": "dense", "after_epoch": 0}
    moved = place.records.write(config, "finished", {**record.body, "earlier": [there]})
    found = compare(moved, record)
    assert found.same and "in another environment than it began in" in found.lines[0]
