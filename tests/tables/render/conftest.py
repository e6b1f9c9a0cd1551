import pytest
from made_table import BASE, LOST, OURS
from workplaces import made_body

from paper_repro.experiment.records import Records


@pytest.fixture
def records(tmp_path):
    """Both cells whole: SGD 90 and 91, S2-SAM 91 and 93; one run lost; one dirty commit."""
    records = Records(tmp_path / "results")
    for config, last in zip(BASE.runs, (90.0, 91.0), strict=True):
        records.write(config, "finished", made_body(last=last, best=last + 0.5))
    for config, last in zip(OURS.runs, (91.0, 93.0), strict=True):
        records.write(config, "finished", made_body(last=last, best=last + 0.25, dirty=last > 92))
    records.write(LOST.runs[0], "diverged", made_body(commit=None, dirty=None))
    return records
