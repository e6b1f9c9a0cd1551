"""The report: what stands on the page, and that it stands there as text."""

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from workplaces import made_body

from paper_repro.experiment.profiles import profile
from paper_repro.experiment.records import Records
from paper_repro.registry import Spec
from tables import TABLES
from tables.report import sections
from tables.report.__main__ import main
from tables.report.browser import browser, print_page
from tables.report.page import page
from tables.report.shown import make, relative
from tables.report.theory import judged, mathml

CPU, SMOKE = profile("cpu"), profile("smoke")
CHECKOUT = Path(__file__).resolve().parents[3]
NASTY = '<script>alert("x")</script><img src=http://example.invalid/a.png>'
WIDTHS = (390, 1280)


class Page(HTMLParser):
    """Every element with its attributes, and which ids and links there are."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def made(folder):
    """Records of the control with two seeds, one of a device with a name that is no text."""
    records = Records(folder)
    for table in ("control", "ablation-sam"):
        for config in TABLES.build(Spec(table), profile=CPU).runs():
            if config.seed == 3 or config.optimizer.name not in ("sgd", "sam", "s2sam"):
                continue
            noise = np.random.default_rng(int(config.fingerprint, 16)).normal(0, 0.2)
            body = made_body(last=40 + noise, best=41)
            body["environment"]["device"] = NASTY if config.optimizer.name == "sam" else "a device"
            body["speed"].update(gradients_per_step=1.0, forwards_per_step=0.0)
            for line in body["curve"]:
                line["train_loss"] = 1.0 / line["epoch"]
            records.write(config, "finished", body)
    return records


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A results folder with some records of the cpu profile, and the report of them."""
    folder = tmp_path_factory.mktemp("report") / "results"
    made(folder)
    assert main(["--profile", "cpu", "--results", str(folder), "--no-pdf"]) == 0
    return folder / "cpu" / "report.html"


@pytest.fixture(scope="module")
def html(written):
    return written.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


def test_the_text_of_records_stays_text(html, parsed):
    assert NASTY not in html and "&lt;script&gt;alert" in html
    assert len(parsed.all("script")) == 1 and NASTY in parsed.words
    assert not [i for i in parsed.all("img") if not i["src"].startswith("data:image/")]


def test_it_loads_nothing_and_runs_only_its_own_script(html, parsed):
    loads = [a.get("src") or a.get("href") for _, a in parsed.elements]
    assert not [x for x in loads if x and re.match(r"(https?:)?//", x)]
    (policy,) = [m["content"] for m in parsed.all("meta") if "Content-Security" in str(m)]
    script = re.search(r"<script>(.*?)</script>", html, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


def test_every_number_leads_to_its_record_and_the_command_that_makes_it(written, parsed):
    links = {a["href"] for a in parsed.all("a") if a.get("href", "").endswith(".json")}
    there = {path.name for path in (written.parent).glob("*.json")}
    assert links == there  # relative: beside the page
    for name in there:
        assert (written.parent / name).exists()
        assert f"run --from-record {written.parent / name}" in parsed.words


def test_links_hold_for_records_of_a_profile_that_was_renamed(tmp_path):
    """Those lie in another profile's folder, and the page in its own."""
    size = profile("cpu-bf16-12")
    config = next(iter(TABLES.build(Spec("control"), profile=size).runs()))
    records, out = Records(tmp_path), tmp_path / size.name / "report.html"
    link = relative(records.path(config), out)
    assert link == f"../cpu/{config.fingerprint}.json"


def test_links_within_the_page_lead_somewhere(parsed):
    ids = {attrs["id"] for _, attrs in parsed.elements if "id" in attrs}
    assert len(ids) == sum("id" in attrs for _, attrs in parsed.elements)
    assert {a["href"][1:] for a in parsed.all("a") if a["href"].startswith("#")} <= ids


def test_tables_with_records_are_shown_and_the_others_named(parsed):
    ids = {a.get("id") for a in parsed.all("section")}
    assert {"control", "ablation-sam", "table4", "flops"} <= ids
    assert not {"tableA1", "surfaces", "table5"} & ids
    assert "make tableA1 PROFILE=cpu" in parsed.words and "0 of" in parsed.words
    title = TABLES.build(Spec("tableA1"), profile=CPU).title
    assert title in parsed.words


def test_numbers_stand_beside_the_published_ones_with_n(parsed):
    assert re.search(r"\d\d\.\d\d ± 0\.\d\d \(2\)", parsed.words)
    assert "paper 94.99" in parsed.words and "paper +0.87" in parsed.words


def test_it_says_what_the_labels_are_first(parsed):
    words = parsed.words
    assert words.index("Trained on wrong labels: 40%") < words.index("What was tested")


def test_every_image_has_words_and_every_table_a_caption(parsed):
    assert all(len(i["alt"]) > 30 for i in parsed.all("img"))
    assert {a["id"] for a in parsed.all("figure")} >= {"figure-forest", "figure-cost"}
    assert len(parsed.all("caption")) == len(parsed.all("table")) > 10
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))  # none is skipped


def test_a_profile_without_records_says_so_and_that_it_is_no_evidence(tmp_path):
    parsed = Page(page(SMOKE, Records(tmp_path), tmp_path / "smoke" / "report.html"))
    assert "Not evidence: this size only shows that the pipeline works." in parsed.words
    assert "Nothing measured yet to draw." in parsed.words
    assert "none yet" in parsed.words and not parsed.all("img")
    assert "no evidence" in parsed.words and " holds " in parsed.words  # theory's statements do


def test_bad_input_is_one_sentence_and_status_2(tmp_path, capsys):
    assert main(["--profile", "huge", "--results", str(tmp_path)]) == 2
    assert "unknown profile 'huge'" in capsys.readouterr().err
    config = next(iter(TABLES.build(Spec("control"), profile=SMOKE).runs()))
    path = Records(tmp_path).path(config)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert main(["--results", str(tmp_path), "--no-pdf"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("paper_repro: ") and "is not a run's record" in said
    assert not (tmp_path / "smoke" / "report.html").exists()


def test_every_command_on_the_page_is_a_target():
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.M | re.I))
    targets |= set(re.search(r"^TABLES := (.*)$", makefile, re.M).group(1).split())
    for name in TABLES:
        assert make(name, SMOKE).split()[1] in targets
    assert {"figures", "report", "theory", "bench", "pictures"} <= targets


def test_statements_have_formulas_and_verdicts():
    found = judged()
    printed, corrected, _ = found.values()
    assert {s.verdict for s in printed} == {"violated"}
    assert {s.verdict for s in corrected} == {"holds"}
    for statements in found.values():
        for s in statements:
            assert s.formula.startswith("<math") and "\\" not in s.formula
            assert "$" not in "".join(s.assumptions) and "\\" not in "".join(s.assumptions)
    assert "&#x0003C;" in mathml("a<b")


def test_the_text_beside_the_templates_has_both_parts():
    assert [heading for heading, _ in sections.words()] == ["What was easy", "What was hard"]
    assert all(len(points) >= 3 and all(points) for _, points in sections.words())


def test_a_claim_of_several_parts_is_counted_by_its_parts():
    def claim(label, verdict):
        return sections.Claim(label, "", "", verdict, "", "", "open", "?", "", label[0].isdigit())

    rows = [claim("10", "undecided"), claim("10a", "undecided"), claim("10b", "not measured")]
    counted = {verdict: n for _, verdict, n in sections.tally([*rows, claim("C", "undecided")])}
    assert counted == {"undecided": 1, "not measured": 1}


def test_costs_are_the_committed_measurements():
    measured = json.loads((CHECKOUT / "benchmarks" / "results-cpu.json").read_text())
    rows = {c.arithmetic: c for c in sections.costs() if c.source.endswith("results-cpu.json")}
    for arithmetic, row in rows.items():
        ratio = measured[f"step {arithmetic}"]["step_ratio"]["sam/sgd"]
        assert row.n == str(ratio["n"]) and row.ratios[1].startswith(f"{ratio['median']:.3f} (")
    assert {"float32", "bf16"} <= set(rows)


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install .[browser]")
    program = browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser(chromium, written, parsed, width, scheme):
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    shown = context.new_page()
    said, asked = [], []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("dialog", lambda dialog: said.append(dialog.message))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(written.as_uri())
    shown.wait_for_load_state("load")
    assert not said
    assert [url for url in asked if not url.startswith("data:")] == [written.as_uri()]
    assert shown.locator("table").count() == len(parsed.all("table"))
    sizes = shown.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth])")
    assert len(sizes) == len(parsed.all("img")) > 0
    assert all(complete and wide > 0 for complete, wide in sizes)
    # Not the page, nor anything in it but what scrolls by itself; with everything opened, too.
    for opened in (False, True):
        if opened:
            shown.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        beyond = shown.evaluate(
            """[...document.querySelectorAll("body *")].filter(
                 e => !e.closest(".scroll") && e.getBoundingClientRect().right > innerWidth + 1
               ).map(e => e.outerHTML.slice(0, 80))"""
        )
        assert beyond == []
    assert contrast(shown) >= 4.5
    context.close()


def contrast(shown):
    """The lowest contrast (WCAG 2) of any text with the background that it stands on."""
    return shown.evaluate(
        """() => {
          const rgb = c => c.match(/[\\d.]+/g).map(Number);
          const light = c => {
            const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
            const [r, g, b] = rgb(c).map(v => linear(v / 255));
            return .2126 * r + .7152 * g + .0722 * b;
          };
          let least = 21;
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const text = texts.currentNode, element = text.parentElement;
            if (!text.textContent.trim() || /SCRIPT|STYLE/.test(element.tagName)) continue;
            let under = element;
            while (under && (rgb(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0)
              under = under.parentElement;
            const back = getComputedStyle(under ?? document.body).backgroundColor;
            const [a, b] = [light(getComputedStyle(element).color), light(back)];
            least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
          }
          return least;
        }"""
    )


def test_tables_sort_in_a_browser(chromium, written):
    shown = chromium.new_page()
    shown.goto(written.as_uri())
    table = shown.locator("#control table").first
    accuracy = table.locator("thead th").nth(2)

    def column():
        return table.locator("tbody tr").evaluate_all(
            "rows => rows.map(r => r.cells[2].dataset.sort)"
        )

    before = column()
    accuracy.get_by_role("button").click()
    up = [float(value) for value in column()]
    assert accuracy.get_attribute("aria-sort") == "ascending" and up == sorted(up)
    assert set(map(float, before)) == set(up)
    accuracy.get_by_role("button").press("Enter")  # by keyboard too
    assert [float(value) for value in column()] == sorted(up, reverse=True)
    accuracy.get_by_role("button").press(" ")
    assert [float(value) for value in column()] == sorted(up)
    opened = table.locator("tbody details").first
    opened.locator("summary").click()
    assert opened.locator("a").first.is_visible()
    shown.close()


def test_gaps_stay_at_the_end_whichever_way_a_table_is_sorted(chromium, written):
    shown = chromium.new_page()
    shown.goto(written.as_uri())
    table = shown.locator("#control table").first
    button = table.locator("thead th").nth(3).get_by_role("button")
    for direction in (1, -1):
        button.click()
        keys = table.locator("tbody tr").evaluate_all(
            "rows => rows.map(r => r.cells[3].dataset.sort ?? null)"
        )
        numbers = [direction * float(key) for key in keys if key is not None]
        assert keys[len(numbers) :] == [None, None]  # SGD's own rows
        assert numbers == sorted(numbers)
    shown.close()


def test_what_does_not_open_on_paper_is_open_there_and_heads_have_their_words(chromium, written):
    shown = chromium.new_page()
    shown.goto(written.as_uri())
    # Chromium paints no <button> in a table's head that it repeats on a page.
    assert shown.locator("thead button").count() == 0
    assert shown.locator("thead [role=button]").count() > 10

    def opened(which):
        return set(shown.locator(f"details{which}").evaluate_all("all => all.map(d => d.open)"))

    few, runs = ":is(.found, .more)", ":not(.found, .more)"
    assert opened(few) == opened(runs) == {False}
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened(few) == {True} and opened(runs) == {False}
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened(few) == {False}
    shown.close()


def test_it_prints(written, tmp_path):
    program = browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    print_page(program, written, tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF") and len(content) > 50_000


def test_a_browser_that_cannot_print_is_one_sentence(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PAPER_REPRO_BROWSER", "/bin/false")
    out = tmp_path / "report.html"
    assert main(["--results", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "/bin/false could not print" in capsys.readouterr().err and out.exists()
