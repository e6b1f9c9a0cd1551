import errno
import fcntl
import json
import math
import os
import signal
import sys

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


def test_a_files_new_name_is_synced_to_disk_after_it(tmp_path, monkeypatch):
    done, replace, fsync = [], os.replace, os.fsync

    def note(handle):
        done.append("folder" if os.path.sameopenfile(handle, folder) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.close(folder)
    assert done == ["file", "replace", "folder"]


def test_a_file_system_that_syncs_no_folders_takes_files_all_the_same(tmp_path, monkeypatch):
    def sync_files(handle, fsync=os.fsync):
        if os.path.samestat(os.fstat(handle), tmp_path.stat()):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync_files)
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text" and names(tmp_path) == ["a"]


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


class Stopped(BaseException):
    pass


def save_and_be_stopped(path):
    """Save as often as that calls functions of ours and of torch's, with a signal in each once."""
    places = (files.__file__, torch.serialization.__file__)

    def stop(number, frame):
        raise Stopped

    def count(frame, event, arg):
        nonlocal calls
        if frame.f_code.co_filename in places:
            calls += 1
            if calls == chosen:
                os.kill(os.getpid(), signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, stop)
    chosen = calls = 0
    while chosen <= calls:
        chosen, calls = chosen + 1, 0
        sys.setprofile(count)
        try:
            save_tensors(path, TENSORS)
        except Stopped:
            calls = chosen
        finally:
            sys.setprofile(None)
    assert chosen > 100


def test_what_a_signals_handler_raises_while_tensors_are_saved_comes_out(tmp_path):
    # In a process of its own, which torch may abort.
    path = tmp_path / "a.pt"
    saver = PROCESSES.Process(target=save_and_be_stopped, args=(path,), daemon=True)
    saver.start()
    saver.join(300)
    assert saver.exitcode == 0
    assert torch.equal(load_tensors(path)["w"], TENSORS["w"])


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


NO_DAMAGE = {
    "memory": (MemoryError(), UserError, "too little memory to load .*a.pt"),
    "a device's": (torch.OutOfMemoryError("CUDA out of memory"), UserError, "too little memory"),
    "a tensor's": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate"),
        UserError,
        "too little memory",
    ),
    "the disk": (OSError(errno.EIO, "Input/output error"), OSError, "Input/output error: .*a.pt"),
    "files": (OSError(errno.EMFILE, "Too many open files"), OSError, "open files: .*a.pt"),
}


@pytest.mark.parametrize(("error", "kind", "said"), NO_DAMAGE.values(), ids=NO_DAMAGE)
def test_a_trouble_of_the_machine_is_no_damage(tmp_path, monkeypatch, error, kind, said):
    def fail(*args, **options):
        raise error

    save_tensors(tmp_path / "a.pt", TENSORS)
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(kind, match=said) as caught:
        load_tensors(tmp_path / "a.pt")
    assert "damaged" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_trouble_of_the_device_is_no_damage(tmp_path, monkeypatch):
    def load(path, map_location, weights_only):
        if map_location != "cpu":
            raise RuntimeError("CUDA error: unspecified launch failure")

    save_tensors(tmp_path / "a.pt", TENSORS)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RuntimeError, match="CUDA error"):
        load_tensors(tmp_path / "a.pt", "cuda")


def test_an_offset_before_the_files_beginning_is_damage(tmp_path, monkeypatch):
    def seek(path):  # as zipfile does, of some damaged directories
        with open(path, "rb") as file:
            file.seek(-1)

    save_tensors(tmp_path / "a.pt", TENSORS)
    monkeypatch.setattr(files.zipfile, "ZipFile", seek)
    with pytest.raises(UserError, match="is damaged"):
        load_tensors(tmp_path / "a.pt")


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


def forked(work):
    """A child that calls ``work`` and waits; what ends it."""
    ready, tell = os.pipe()
    listen, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            work()
            os.write(tell, b"x")
            os.read(listen, 1)
        finally:
            os._exit(0)
    os.close(listen), os.close(tell)
    os.read(ready, 1)
    os.close(ready)

    def stop():
        os.close(end)
        os.waitpid(pid, 0)

    return stop


def test_a_lock_ends_with_its_block_and_not_with_what_was_forked_in_it(tmp_path):
    with exclusive(tmp_path / "run"):
        stop = forked(lambda: None)
    try:
        assert worker_in(tmp_path / "run") is None
    finally:
        stop()


def test_a_forked_process_that_leaves_the_block_does_not_end_its_parents_lock(tmp_path):
    block = exclusive(tmp_path / "run")
    block.__enter__()
    forked(lambda: block.__exit__(None, None, None))()
    assert worker_in(tmp_path / "run") == f"pid {os.getpid()}"
    block.__exit__(None, None, None)
    assert worker_in(tmp_path / "run") is None


def hold_and_fork(folder, ready, listen):
    with exclusive(folder):
        if os.fork() == 0:
            ready.touch()
            listen.poll(None)
            os._exit(0)
        signal.pause()


def test_a_lock_ends_with_its_process_and_not_with_what_it_forked(tmp_path):
    folder, ready = tmp_path / "run", tmp_path / "ready"
    listen, end = PROCESSES.Pipe(duplex=False)
    holder = PROCESSES.Process(target=hold_and_fork, args=(folder, ready, listen), daemon=True)
    holder.start()
    try:
        until(ready.exists)
        assert worker_in(folder) == f"pid {holder.pid}"
        os.kill(holder.pid, signal.SIGKILL)
        until(lambda: worker_in(folder) is None, 30)
    finally:
        end.send(None)
        holder.join()
