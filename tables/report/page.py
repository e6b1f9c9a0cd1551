"""The page: everything collected, and put into the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper_repro.experiment.measures import Measures
from paper_repro.experiment.profiles import Profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.base import Number, Table
from tables.caution import cautions
from tables.figures import FIGURES
from tables.figures.style import WIDTH, description, png, svg
from tables.render.trained import about, usual
from tables.report import sections
from tables.report.shown import Grid, Once, grids, make
from tables.report.theory import judged

__all__ = ["Picture", "Section", "page"]

_TEMPLATES = Path(__file__).parent / "templates"
#: The paper's order; what is not named here follows by name.
_ORDER = (
    *("control", "table1", "tableA1", "table2", "table3", "table4", "table5", "table5-types"),
    *("table6", "surfaces", "rebuttal-translation", "ablation-sweep", "ablation-lrr"),
)
#: Bytes from which a drawing of very many parts is smaller, and opens faster, as pixels.
_MANY = 400_000


@dataclass(frozen=True)
class Section:
    """A table with what is needed to read it."""

    name: str
    title: str
    about: str
    command: str
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI."""

    name: str
    title: str
    alt: str
    source: str
    wide: bool


def page(
    profile: Profile,
    records: Records,
    out: Path,
    advance: Callable[[str], object] = lambda part: None,
) -> str:
    """The whole page as HTML.

    Args:
        profile: whose records.
        records: to read; nothing else is, but the benchmarks' and the theory's committed results.
        out: where the page will lie; links to records are relative to it.
        advance: called with the name of each part before it is made.

    Raises:
        UserError: a record is damaged.
    """
    once = Once(records.folder)
    found: list[Section] = []
    absent: list[tuple[str, str, str]] = []
    for name in sorted(set(TABLES) - {"claims"}, key=_position):
        advance(name)
        table = TABLES.build(Spec(name), profile=profile)
        wanted = list(table.runs())
        there = sum(once.get(config) is not None for config in wanted)
        if (there and _measured(table, once)) or (not wanted and _known(table)):
            found.append(_section(table, once, profile, out))
        elif wanted:
            state = f"{there} of {len(wanted)} runs"
            absent.append((table.title, state, make(name, profile)))
    advance("claims")
    judged_claims = sections.claims(profile, once)
    pictures = list(_pictures(profile, once, advance))
    used, own = once.found(), profile.runs_as or profile.name  # some tables show another's too
    advance("page")
    headers, environments = sections.environments(used)
    style, script = ((_TEMPLATES / f).read_text(encoding="utf-8") for f in _ASSETS)
    return _template().render(
        profile=profile,
        cautions=cautions(profile),
        facts=sections.facts(profile, [r for r in used if r.config.profile == own]),
        claims=judged_claims,
        tally=sections.tally(judged_claims),
        sections=found,
        anchors={section.name for section in found} | {"cost", "theory"},
        absent=absent,
        first=[p for p in pictures if p.name == "forest"],
        pictures=[p for p in pictures if p.name != "forest"],
        theory=judged(),
        costs=sections.costs(),
        words=sections.words(),
        environment_headers=headers,
        environments=environments,
        style=style,
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


_ASSETS = ("style.css", "sort.js")


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,  # whatever the file's name: records are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html")


def _position(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _known(table: Table) -> bool:
    """Whether something of a table is known though nothing is trained for it."""
    return any(isinstance(e, Number) and e.value is not None for r in table.rows for e in r.entries)


def _measured(table: Table, records: Records) -> bool:
    """Whether a table that reads measures of trained runs has one of them; others need none."""
    wanted, measures = list(table.measures()), Measures(records.folder)
    return not wanted or any(measures.path(*pair).exists() for pair in wanted)


def _section(table: Table, records: Records, profile: Profile, out: Path) -> Section:
    from tables.render import notes

    trained = about(table, profile)
    return Section(
        table.name,
        table.title,
        "" if trained in (profile.about, usual(profile)) else trained,
        make(table.name, profile),
        tuple(grids(table, records, profile, out)),
        tuple(notes(table, records, profile)),
    )


def _pictures(
    profile: Profile, records: Records, advance: Callable[[str], object]
) -> Iterator[Picture]:
    for family in FIGURES:
        advance(f"figures: {family}")
        for name, drawn in FIGURES.build(Spec(family), profile=profile, records=records):
            title, form, content = drawn.get_suptitle(), "svg+xml", svg(drawn, profile)
            if len(content) > _MANY:
                form, content = "png", png(drawn, profile)
            source = f"data:image/{form};base64,{base64.b64encode(content).decode()}"
            wide = drawn.get_figwidth() > 1.3 * WIDTH
            yield Picture(name, title, description(drawn), source, wide)
