"""Imports run downwards only: a room may use what lies below it, and nothing else."""

import ast
from pathlib import Path

import pytest

import paper_repro

PACKAGE = Path(paper_repro.__file__).parent

#: From the ground up. Rooms on one floor do not know each other; the ground's modules may.
FLOORS = (
    {"errors", "registry", "files", "generators", "progress", "vision"},
    {"data", "models", "optim"},
    {"sparse"},
    {"clients"},
    {"measure", "config"},
    {"engine"},
    {"train"},
    {"experiment"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
#: Beside the package: these use it, and only the command line knows of tables.
OUTSIDE = {"tables", "theory", "benchmarks", "tests"}


def imported(code, package=PACKAGE):
    """Every module of the project that a file's text names in an import, wherever it stands."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            # `from paper_repro import config` names a room only in its second half.
            whole = node.module == "paper_repro"
            names = [f"paper_repro.{a.name}" for a in node.names] if whole else [node.module]
        else:
            continue
        yield from (n.split(".") for n in names if n.split(".")[0] in {"paper_repro"} | OUTSIDE)


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def forbidden(code, here):
    """The imports of a file in room ``here`` that do not lead downwards."""
    for parts in imported(code):
        if parts[0] in OUTSIDE:
            if not (parts[0] == "tables" and here == "cli"):
                yield ".".join(parts)
            continue
        there = parts[1] if len(parts) > 1 else "__init__"
        same = there == here or (FLOOR[here] == 0 and FLOOR.get(there) == 0)
        if not same and FLOOR.get(there, -1) >= FLOOR[here]:
            yield ".".join(parts)


@pytest.mark.parametrize("here", sorted(FLOOR))
def test_a_room_uses_only_what_lies_below(here):
    paths = [p for p in PACKAGE.rglob("*.py") if room(p) == here]
    assert paths
    for path in paths:
        found = list(forbidden(path.read_text(encoding="utf-8"), here))
        assert not found, f"{path.relative_to(PACKAGE)} imports {', '.join(found)}"


def test_every_file_has_its_floor():
    rooms = {room(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize(
    "here, code",
    [
        ("optim", "from paper_repro.sparse.masks import Masks"),
        ("optim", "if TYPE_CHECKING:\n    from paper_repro.sparse import Masks"),
        ("optim", "def f():\n    import paper_repro.sparse"),
        ("sparse", "from paper_repro import config"),
        ("data", "from paper_repro.models import MODELS"),
        ("measure", "from paper_repro.config import RunConfig"),
        ("errors", "from paper_repro.data import load"),
        ("train", "from paper_repro.experiment.runs import Workplace"),
        ("experiment", "from paper_repro.cli import main"),
        ("experiment", "from tables import TABLES"),
        ("train", "import theory.lemma"),
    ],
)
def test_an_upward_import_is_found(here, code):
    assert list(forbidden(code, here))


@pytest.mark.parametrize(
    "here, code",
    [
        ("cli", "from tables import render\nfrom paper_repro.experiment import runs"),
        ("measure", "from paper_repro.sparse import Masks"),
        ("files", "from paper_repro.errors import UserError"),
        ("train", "import torch\nfrom paper_repro.train.task import Task"),
    ],
)
def test_a_downward_import_is_fine(here, code):
    assert not list(forbidden(code, here))
