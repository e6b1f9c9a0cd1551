"""Which files are a split's shards, and that none is missing or there twice."""

import pytest

from paper_repro.data.parquet import shards
from paper_repro.errors import UserError


def made(folder, names):
    for name in names:
        (folder / f"{name}.parquet").touch()
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [f"train-{i:05}-of-00012" for i in range(12)],
        ["train-00000-of-00002-9f86d081884c7d65", "train-00001-of-00002-60303ae22b998861"],
        ["train-00000-of-00001 (1)"],
        ["train-0", "train-1"],  # which say nothing of how many there are
    ],
)
def test_what_is_there_once_each_is_read_in_order(tmp_path, names):
    made(tmp_path, [*names, "test-00000-of-00007"])
    assert [path.stem for path in shards(tmp_path, "train")] == names


@pytest.mark.parametrize(
    ("names", "said"),
    [
        # A browser's second download in the place of a shard that is missing.
        (["00000-of-00003", "00001-of-00003", "00001-of-00003 (1)"], "the same shard"),
        (["00000-of-00001-aaaa", "00000-of-00001-bbbb"], "the same shard"),
        (["00000-of-00001", "00000-of-00001-bbbb"], "the same shard"),
        (["00000-of-00003-aaaa", "00002-of-00003-cccc"], "has 2 of the 3 files train-"),
        (["00001-of-00002"], "has 1 of the 2 files train-.*the copy is incomplete"),
        (["00001-of-00002", "00002-of-00002"], "has 1 of the 2 files train-"),
        (["00000-of-00001", "00000-of-00002", "00001-of-00002"], "not of one copy"),
        (["0", "00000-of-00001"], "has train-00000-of-00001.parquet and train-0.parquet, which"),
    ],
)
def test_what_is_missing_or_there_twice_is_refused(tmp_path, names, said):
    made(tmp_path, [f"train-{name}" for name in names])
    with pytest.raises(UserError, match=said) as caught:
        shards(tmp_path, "train")
    assert "\n" not in str(caught.value)
