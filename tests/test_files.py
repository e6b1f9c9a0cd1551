import errno
import fcntl
import json
import math
import os
import signal

import pytest
import torch
from workplaces import PROCESSES, until

from paper_repro import files
from paper_repro.errors import UserError
from paper_repro.files import (
    Busy,
    clear_leftovers,
    exclusive,
    finite,
    load_tensors,
    save_tensors,
    worker_in,
    write_json,
    write_text,
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "sub" / "a.txt"
    write_text(path, "old")

    def full(source, target):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(path, "new")
    assert path.read_text() == "old" and names(path.parent) == ["a.txt"]


def test_a_value_that_json_cannot_say_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": 1} and names(tmp_path) == ["a.json"]


def write_for_ever(path):
    size = 0
    while True:
        size = (size + 1) % 10
        write_json(path, [size] * 20_000)


def test_a_file_is_whole_whenever_it_is_read_and_after_its_writer_is_killed(tmp_path):
    path = tmp_path / "a.json"
    writer = PROCESSES.Process(target=write_for_ever, args=(path,), daemon=True)
    writer.start()
    until(path.exists)
    for _ in range(15):
        assert len(json.loads(path.read_text())) == 20_000
    # Killed in the middle of a write, that is while a temporary file is there.
    until(lambda: [n for n in names(tmp_path) if n.endswith(".tmp")])
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert len(set(json.loads(path.read_text()))) == 1
    with exclusive(tmp_path):
        assert names(tmp_path) == ["a.json", "lock"]


def test_leftovers_of_one_file_are_cleared_and_others_kept(tmp_path):
    for name in (".a[1].json.x1.tmp", ".a[1].json.x2.tmp", ".b.json.x1.tmp", "a[1].json", "c.tmp"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path, "a[1].json")
    assert names(tmp_path) == [".b.json.x1.tmp", "a[1].json", "c.tmp"]


def test_files_can_be_read_by_others(tmp_path):
    write_text(tmp_path / "a", "")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_finite_replaces_what_json_has_not():
    value = {"a": [1.5, math.nan, (math.inf, "x")], "b": {"c": -math.inf, "d": None, "e": 3}}
    assert finite(value) == {"a": [1.5, None, [None, "x"]], "b": {"c": None, "d": None, "e": 3}}


TENSORS = {"w": torch.arange(5000.0), "n": 3, "name": "x"}


def test_tensors_come_back_and_equal_values_make_equal_bytes(tmp_path):
    save_tensors(tmp_path / "a.pt", TENSORS)
    save_tensors(tmp_path / "b.pt", TENSORS)
    back = load_tensors(tmp_path / "a.pt")
    assert torch.equal(back["w"], TENSORS["w"]) and back["n"] == 3
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "words"])
def test_damaged_tensors_are_found_and_named(tmp_path, damage):
    path = tmp_path / "a.pt"
    save_tensors(path, TENSORS)
    raw = bytearray(path.read_bytes())
    if damage == "flip":  # a single bit of the data, which torch.load itself does not notice
        raw[len(raw) // 2] ^= 1
    path.write_bytes({"flip": raw, "truncate": raw[:-100], "empty": b"", "words": b"hello"}[damage])
    with pytest.raises(UserError, match=r"a\.pt is damaged .*delete it"):
        load_tensors(path)


def test_code_in_a_tensor_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"a": Evil()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="damaged"):
        load_tensors(tmp_path / "a.pt")
    assert not (tmp_path / "evil").exists()


def test_a_tensor_file_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "a.pt")


def hold(folder, ready):
    with exclusive(folder):
        ready.touch()
        signal.pause()


def test_a_folder_is_one_processs_until_it_dies(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    folder, ready = tmp_path / "run", tmp_path / "ready"
    assert worker_in(folder) is None
    holder = PROCESSES.Process(target=hold, args=(folder, ready), daemon=True)
    holder.start()
    until(ready.exists)
    assert worker_in(folder) == f"pid {holder.pid}"
    with pytest.raises(Busy, match=rf"another process \(pid {holder.pid}\) is training in"):
        exclusive(folder).__enter__()
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert worker_in(folder) is None
    with exclusive(folder):
        assert worker_in(folder) == f"pid {os.getpid()}"
    assert worker_in(folder) is None


def test_a_lock_that_is_about_to_be_dropped_is_waited_for(tmp_path):
    folder, ready = tmp_path / "run", tmp_path / "ready"
    holder = PROCESSES.Process(target=hold, args=(folder, ready), daemon=True)
    holder.start()
    until(ready.exists)
    os.kill(holder.pid, signal.SIGKILL)  # and not waited for
    with exclusive(folder):
        pass
    holder.join()


def test_a_file_system_without_locks_is_said_to_be_one(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match=r"has no locks \(No locks available\)"),
        exclusive(tmp_path / "run"),
    ):
        pass
