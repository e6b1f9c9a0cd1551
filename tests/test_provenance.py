"""A record names the code that made it, and proves it."""

import subprocess
from pathlib import Path

import pytest
import torch

from paper_repro import provenance as module
from paper_repro.provenance import environment, tree_id


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository with a committed package that ``environment`` takes for its own."""

    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "provenance.py").write_text("")
    (tmp_path / "README.md").write_text("")
    (tmp_path / ".gitignore").write_text("__pycache__/\n/site-packages/\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(module, "__file__", str(package / "provenance.py"))
    return tmp_path


def code():
    where = environment(torch.device("cpu"))
    return where["commit"], where["dirty"]


def test_committed_code_is_named_by_its_commit_whatever_else_changes(checkout):
    (checkout / "README.md").write_text("results, tables and texts do not train\n")
    (checkout / "package" / "__pycache__").mkdir()
    (checkout / "package" / "__pycache__" / "a.pyc").touch()
    commit, dirty = code()
    assert len(commit) == 40 and dirty is False


def test_changed_code_is_dirty(checkout):
    (checkout / "package" / "provenance.py").write_text("changed")
    assert code()[1] is True


def test_a_new_file_with_a_method_is_dirty_too(checkout):
    (checkout / "package" / "my_method.py").touch()
    assert code()[1] is True


def test_code_that_lies_in_no_repository_of_its_own_has_no_commit(checkout, monkeypatch):
    installed = checkout / "site-packages" / "provenance.py"
    installed.parent.mkdir()
    installed.touch()
    monkeypatch.setattr(module, "__file__", str(installed))
    assert code() == (None, None)
    monkeypatch.setenv("PAPER_REPRO_COMMIT", "c0ffee")  # a copy whose owner knows where it is from
    assert code() == ("c0ffee", None)


def test_a_repository_knows_better_than_the_environment_variable(checkout, monkeypatch):
    monkeypatch.setenv("PAPER_REPRO_COMMIT", "c0ffee")
    assert code()[0] != "c0ffee"


def test_a_tree_has_gits_own_name_for_it(checkout):
    package = checkout / "package"
    for name in ("a/b.py", "a.py", "a-b.py", "a/c/d.py", "ab.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"# {name} \N{GREEK SMALL LETTER RHO}\n")
    (package / "a.py").chmod(0o755)
    (package / "empty").mkdir()
    (package / "a" / "__pycache__").mkdir()
    (package / "a" / "__pycache__" / "b.pyc").touch()

    def git(*arguments):
        ran = subprocess.run(["git", *arguments], cwd=checkout, check=True, capture_output=True)
        return ran.stdout.decode().strip()

    git("add", ".")
    assert tree_id(package) == git("write-tree", "--prefix=package/")
    (package / "a" / "c" / "d.py").write_text("")
    assert tree_id(package) != git("write-tree", "--prefix=package/")


def test_the_tree_of_this_package_is_in_every_environment():
    here = Path(module.__file__).parent
    assert environment(torch.device("cpu"))["tree"] == tree_id(here)


def test_an_environment_says_what_a_speed_depends_on():
    where = environment(torch.device("cpu"))
    assert where["device_type"] == "cpu" and where["torch"] == torch.__version__
    assert where["device"] and where["threads"] >= 1 and where["cores"] >= 1 and where["python"]
