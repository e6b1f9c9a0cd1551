"""A record names the code that made it, and proves it."""

import subprocess
from pathlib import Path

import pytest
import torch

import paper_repro
from paper_repro.experiment import provenance as module
from paper_repro.experiment.provenance import code_in, environment, tree_id


@pytest.fixture
def checkout(tmp_path):
    """A git repository with a committed package with its own history."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "provenance.py").write_text("")
    (package / "wing").mkdir()
    (package / "wing" / "deep.py").write_text("")
    (tmp_path / "README.md").write_text("")
    (tmp_path / ".gitignore").write_text("__pycache__/\n/site-packages/\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def code(checkout, folder="package"):
    found = code_in(checkout / folder, "provenance.py")
    return found["commit"], found["dirty"]


def test_committed_code_is_named_by_its_commit_whatever_else_changes(checkout):
    (checkout / "README.md").write_text("results, tables and texts do not train\n")
    (checkout / "package" / "__pycache__").mkdir()
    (checkout / "package" / "__pycache__" / "a.pyc").touch()
    commit, dirty = code(checkout)
    assert len(commit) == 40 and dirty is False


def test_changed_code_is_dirty(checkout):
    (checkout / "package" / "provenance.py").write_text("changed")
    assert code(checkout)[1] is True


def test_a_new_file_with_a_method_is_dirty_too(checkout):
    (checkout / "package" / "my_method.py").touch()
    assert code(checkout)[1] is True


def test_code_that_lies_in_no_repository_of_its_own_has_no_commit(checkout, monkeypatch):
    installed = checkout / "site-packages" / "provenance.py"
    installed.parent.mkdir()
    installed.touch()
    assert code(checkout, "site-packages") == (None, None)
    monkeypatch.setenv("PAPER_REPRO_COMMIT", "c0ffee")  # a copy whose owner knows where it is from
    assert code(checkout, "site-packages") == ("c0ffee", None)


def test_a_module_in_a_folder_of_the_package_speaks_for_the_whole_package(checkout):
    deep = "wing/deep.py"
    assert code_in(checkout / "package", deep) == code_in(checkout / "package", "provenance.py")
    (checkout / "package" / "provenance.py").write_text("changed")  # outside of its folder
    assert code_in(checkout / "package", deep)["dirty"] is True
    assert code_in(checkout / "package", "wing/missing.py")["commit"] is None


def test_a_repository_knows_better_than_the_environment_variable(checkout, monkeypatch):
    monkeypatch.setenv("PAPER_REPRO_COMMIT", "c0ffee")
    assert code(checkout)[0] != "c0ffee"


def test_a_tree_has_gits_own_name_for_it(checkout):
    package = checkout / "package"
    for name in ("a/b.py", "a.py", "a-b.py", "a/c/d.py", "ab.py", "n/k.cpp", "n/k.h", "n/m/v.h"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"# {name} \N{GREEK SMALL LETTER RHO}\n")
    (package / "a.py").chmod(0o755)
    (package / "empty").mkdir()
    (package / "a" / "__pycache__").mkdir()
    (package / "a" / "__pycache__" / "b.pyc").touch()
    (package / "n" / "lib").mkdir()
    (package / "n" / "lib" / "compiled.so").touch()
    with (checkout / ".gitignore").open("a") as file:
        file.write("lib/\n")

    def git(*arguments):
        ran = subprocess.run(["git", *arguments], cwd=checkout, check=True, capture_output=True)
        return ran.stdout.decode().strip()

    git("add", ".")
    assert tree_id(package) == git("write-tree", "--prefix=package/")
    for name in ("a/c/d.py", "n/m/v.h"):
        before = (package / name).read_text()
        (package / name).write_text("")
        assert tree_id(package) != git("write-tree", "--prefix=package/")
        (package / name).write_text(before)
    assert tree_id(package) == git("write-tree", "--prefix=package/")


def test_all_that_git_tracks_of_this_package_is_in_its_tree():
    package = Path(paper_repro.__file__).parent
    ran = subprocess.run(
        ["git", "ls-files", "--", "."], cwd=package, capture_output=True, text=True
    )
    tracked = ran.stdout.split()
    if not tracked:
        pytest.skip("not in a repository")
    assert {Path(name).suffix for name in tracked} <= module._SOURCES


def test_the_code_of_this_package_as_it_was_imported_is_in_every_environment(monkeypatch):
    package = Path(paper_repro.__file__).parent
    found = environment(torch.device("cpu"))
    code = {name: found[name] for name in ("commit", "dirty", "tree")}
    assert code["tree"] == tree_id(package)
    assert code == code_in(package, "experiment/provenance.py")
    # What becomes of the files later is not what runs.
    monkeypatch.setattr(module, "tree_id", lambda folder: "changed")
    monkeypatch.setattr(module, "_git", lambda *arguments: "changed")
    assert environment(torch.device("cpu")) == found


def test_an_environment_says_what_a_speed_depends_on():
    where = environment(torch.device("cpu"))
    assert where["device_type"] == "cpu" and where["torch"] == torch.__version__
    assert where["device"] and where["threads"] >= 1 and where["cores"] >= 1 and where["python"]
