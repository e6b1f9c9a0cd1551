"""Records leave in one archive and are merged where they belong, and nothing else ever is."""

import gzip
import io
import json
import tarfile
from dataclasses import replace

import pytest

from paper_repro.errors import UserError
from paper_repro.experiment.archive import export_records, import_records
from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.measure import MEASURES
from paper_repro.optim import OPTIMIZERS

ENVIRONMENT = {"commit": None, "dirty": None}


def config(seed=0, name="smoke"):
    size = profile("smoke")
    made = size.config("cifar10", "resnet32x2", size.method("dense"), OPTIMIZERS.spec("sgd"), seed)
    return replace(made, profile=name)


def put(records, seed=0, accuracy=90.0, status="finished", name="smoke"):
    body = {"environment": ENVIRONMENT, "reason": None, "curve": [{"epoch": 1}]}
    if status == "finished":
        body["speed"] = {"seconds": 1.0}
        body["sparsity"] = {"masked_layers": 0.0, "overall": 0.0}
        body["accuracy"] = {"last": accuracy, "best": accuracy}
    return records.write(config(seed, name), status, body)


SHARPNESS = MEASURES.spec("sharpness")


def measure(records, seed=0, worst=1.5, name="smoke"):
    body = {"environment": ENVIRONMENT, "weights": "ab" * 32}
    return Measures(records.folder).write(config(seed, name), SHARPNESS, {"worst": worst}, body)


def archive_of(path, *members):
    """A .tar.gz of (name or TarInfo, bytes)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def here(tmp_path):
    return Records(tmp_path / "here")


@pytest.fixture
def there(tmp_path):
    return Records(tmp_path / "there")


@pytest.fixture
def packed(there, tmp_path):
    """An archive of two finished runs and a diverged one."""
    put(there, 0)
    put(there, 1, name="cpu")
    put(there, 2, status="diverged")
    assert export_records(there, tmp_path / "records.tar.gz") == (3, 0)
    return tmp_path / "records.tar.gz"


def test_a_round_trip_brings_every_record_over_byte_for_byte(packed, here, there):
    merged = import_records(packed, here)
    assert sorted(merged.new) == sorted(f"{r.config.profile}/{r.config.fingerprint}" for r in there)
    assert not merged.same and not merged.conflicting and not merged.outdated
    assert files(here.folder) == files(there.folder)


def test_importing_twice_changes_nothing(packed, here):
    import_records(packed, here)
    before = files(here.folder)
    merged = import_records(packed, here)
    assert len(merged.same) == 3 and not merged.new and not merged.conflicting
    assert files(here.folder) == before


def test_measures_travel_with_their_records(here, there, tmp_path):
    for seed, name in enumerate(("smoke", "smoke", "cpu")):
        put(there, seed, name=name)
        measure(there, seed, name=name)
    archive = tmp_path / "a.tar.gz"
    assert export_records(there, archive, profile="smoke") == (2, 2)
    assert export_records(there, archive) == (3, 3)
    merged = import_records(archive, here)
    assert len(merged.new) == 6 and files(here.folder) == files(there.folder)
    assert len(import_records(archive, here).same) == 6
    # Another value of the same measure stays, and so does one of a run that ended otherwise here.
    measure(here, 0, worst=7.0)
    put(here, 1, accuracy=12.0)
    before = files(here.folder)
    merged = import_records(archive, here)
    own = Measures(here.folder)
    names = [f"smoke/measures/{own.path(config(i), SHARPNESS).stem}" for i in (0, 1)]
    assert sorted(merged.conflicting) == sorted([*names, f"smoke/{config(1).fingerprint}"])
    assert files(here.folder) == before


def test_a_damaged_measure_is_not_exported(there, tmp_path):
    put(there)
    measure(there)
    Measures(there.folder).path(config(), SHARPNESS).write_text("{}")
    with pytest.raises(UserError, match="not a measure of a run"):
        export_records(there, tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


def test_the_same_records_make_the_same_bytes(packed, there, tmp_path):
    export_records(there, tmp_path / "again.tar.gz")
    assert (tmp_path / "again.tar.gz").read_bytes() == packed.read_bytes()


def test_one_profile_can_be_exported_alone(packed, there, here, tmp_path):
    assert export_records(there, tmp_path / "cpu.tar.gz", profile="cpu") == (1, 0)
    assert len(import_records(tmp_path / "cpu.tar.gz", here).new) == 1
    assert [r.config.profile for r in here] == ["cpu"]


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_a_different_record_of_a_run_is_never_replaced(packed, here, status):
    put(here, 0, accuracy=12.0, status=status)
    before = here.path(config(0)).read_bytes()
    merged = import_records(packed, here)
    assert merged.conflicting == [f"smoke/{config(0).fingerprint}"]
    assert len(merged.new) == 2
    assert here.path(config(0)).read_bytes() == before


def test_a_failure_gives_way_to_a_record(packed, here):
    put(here, 0, status="failed")
    assert len(import_records(packed, here).new) == 3
    assert here.get(config(0)).status == "finished"


def test_a_record_does_not_give_way_to_a_failure(here, there, tmp_path):
    put(there, 0, status="failed")
    export_records(there, tmp_path / "failed.tar.gz")
    put(here, 0)
    merged = import_records(tmp_path / "failed.tar.gz", here)
    assert merged.outdated == [f"smoke/{config(0).fingerprint}"]
    assert here.get(config(0)).status == "finished"


def test_nothing_to_export_is_said(here, there, tmp_path):
    with pytest.raises(UserError, match="no records under"):
        export_records(here, tmp_path / "x.tar.gz")
    put(there)
    with pytest.raises(UserError, match="no records of the paper profile"):
        export_records(there, tmp_path / "x.tar.gz", profile="paper")
    assert not (tmp_path / "x.tar.gz").exists()


def test_a_damaged_record_is_not_exported(there, tmp_path):
    put(there)
    there.path(config()).write_text("{}")
    with pytest.raises(UserError, match="not a run's record"):
        export_records(there, tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


def evil(kind, there):
    """Archive members that must not be accepted, beside a sound one."""
    good = put(there, 0)
    name = f"smoke/{good.config.fingerprint}.json"
    content = there.path(good.config).read_bytes()
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    away = put(there, 3, name="../../away")
    outside = there.path(away.config).read_bytes()
    stem = away.config.fingerprint
    measure(there, 0)
    path = Measures(there.folder).path(good.config, SHARPNESS)
    measured, taken = f"smoke/measures/{path.name}", path.read_bytes()
    other = json.dumps({**json.loads(content), "fingerprint": "0" * 16}).encode()
    return {
        "parent folder": [(f"../{name}", content)],
        "absolute": [(f"/tmp/{name}", content)],
        "two folders": [(f"a/{name}", content)],
        "symbolic link": [(link, b"")],
        "a profile that climbs": [(f"smoke/{stem}.json", outside)],
        "another profile": [(name.replace("smoke", "paper"), content)],
        "another file": [("smoke/tables/table1.md", b"# Table 1")],
        "another name": [(f"smoke/{'0' * 16}.json", content)],
        "another fingerprint": [(name, other)],
        "no JSON": [(name, b"hello")],
        "no text": [(name, b"\xff\xfe\x00")],
        "deep": [(name, b"[" * 200_000)],
        "no config": [(name, b'{"status": "finished"}')],
        "no measure": [
            (f"smoke/measures/{good.config.fingerprint}.sharpness-01234567.json", b"{}")
        ],
        "another measure": [(measured.replace("sharpness", "spectrum"), taken)],
        "a measure outside": [(f"../{measured}", taken)],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "parent folder",
        "absolute",
        "two folders",
        "symbolic link",
        "a profile that climbs",
        "another profile",
        "another file",
        "another name",
        "another fingerprint",
        "no JSON",
        "no text",
        "deep",
        "no config",
        "no measure",
        "another measure",
        "a measure outside",
    ],
)
def test_an_archive_with_anything_else_is_refused_whole(kind, there, here, tmp_path):
    sound = put(there, 5)
    good = (f"smoke/{sound.config.fingerprint}.json", there.path(sound.config).read_bytes())
    path = archive_of(tmp_path / "evil.tar.gz", good, *evil(kind, there))
    before = files(tmp_path)
    with pytest.raises(UserError) as caught:
        import_records(path, here)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[: len(b) // 2],
        lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 255]) + b[len(b) // 2 + 1 :],
        lambda b: b"",
        lambda b: b"not an archive",
        lambda b: gzip.compress(b"not a tar file" * 100),
    ],
    ids=["cut short", "a flipped byte", "empty", "text", "gzip of something else"],
)
def test_a_damaged_archive_is_one_sentence_and_changes_nothing(damage, packed, here):
    packed.write_bytes(damage(packed.read_bytes()))
    with pytest.raises(UserError, match="damaged or is no archive") as caught:
        import_records(packed, here)
    assert "\n" not in str(caught.value)
    assert not here.folder.exists()


def test_a_missing_archive_is_said(here, tmp_path):
    with pytest.raises(UserError, match="there is no archive"):
        import_records(tmp_path / "none.tar.gz", here)


def test_a_folder_is_no_archive(here, tmp_path):
    with pytest.raises(UserError, match="damaged or is no archive"):
        import_records(tmp_path, here)
