"""The site in a browser, on a desk and on a phone; screenshots go to reports/screenshots."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import json
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from q8a8_conformance import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]
DESK, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
MAIN = ("index", "judge-your-kernel", "spec/layout", "spec/orders", "mutants", "ko/index")
EMPTY_INDEX = {"config": {"lang": ["en"], "separator": " ", "pipeline": [], "fields": {}}, "docs": []}
SEARCH_SECONDS = 60.0
# What a reader would have to scroll sideways for: the page, and on a desk its code.
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  const found = [];
  for (const whole of [document.documentElement, document.body])
    if (whole.scrollWidth > width) found.push(`the page is ${whole.scrollWidth} pixels wide`);
  if (width > 1000)
    for (const code of document.querySelectorAll(".md-content pre > code"))
      if (code.scrollWidth > code.clientWidth + 1)
        found.push(`code is wider than its column: ${code.textContent.split("\\n")
          .reduce((a, b) => (a.length > b.length ? a : b))}`);
  return found;
}"""
INVISIBLE = "[...document.querySelectorAll('mjx-container > svg')].some(formula => formula.clientWidth < 3)"
"""Whether a formula is there, but not to be seen."""
# Words of a table's or a sentence's names that are cut at a line's end, where no joint is.
CUT = """() => {
  const found = [];
  for (const code of document.querySelectorAll(".md-content :not(pre) > code")) {
    const walker = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode;
      if (!/^[\\w.]{2,24}$/.test(text.data)) continue;
      const range = document.createRange();
      range.selectNodeContents(text);
      if (range.getClientRects().length > 1) found.push(text.data);
    }
  }
  return found;
}"""


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each; the browser keeps them, with what it compiled of scripts."""

    protocol_version = "HTTP/1.1"  # one connection for many files

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def end_headers(self) -> None:
        """Let the browser keep the file."""
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()

    def do_GET(self) -> None:
        """Send a file; of the search's index, which is large and tested from a folder, an empty one.

        (A route in the browser would do the same, and switch its cache off.)
        """
        if not self.path.endswith("/search_index.json"):
            super().do_GET()
            return
        body = json.dumps(EMPTY_INDEX).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Serve the site at a local port and return its address."""
    handler = functools.partial(Files, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(need: Callable[[object, str], None]) -> Iterator[Browser]:
    """Start Debian's chromium, one process for all tests."""
    need(importlib.util.find_spec("playwright"), "playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    need(program, "chromium is not installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 -- skipped without it

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., tuple[Page, list[str]]]]:
    """Return a function that opens an empty page, with the list that its complaints go to."""
    with contextlib.ExitStack() as stack:

        def new(size: dict[str, int] = DESK, **options: Any) -> tuple[Page, list[str]]:  # noqa: ANN401
            context = browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
            stack.callback(context.close)
            page = context.new_page()
            complaints: list[str] = []

            def add(words: str) -> None:
                complaints.append(f"{page.url}: {words}")

            page.on("console", lambda said: add(said.text) if said.type in {"error", "warning"} else None)
            page.on("pageerror", lambda error: add(str(error)))
            page.on("response", lambda got: add(f"{got.status} {got.url}") if got.status >= 400 else None)
            return page, complaints

        yield new


def screenshot(page: Page, name: str) -> None:
    """Keep a picture of what the page shows."""
    folder = ROOT / "reports" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def test_every_page(served: str, site: Path, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """No page is wider than a desk's or a phone's screen, complains, misses a file or cuts a name.

    MathJax draws every formula, without an error.
    """
    page, complaints = opened(reduced_motion="reduce")  # nothing is measured while it moves
    sizes = [("on a desk", "", DESK), ("on a phone", "-phone", PHONE)]
    formulas = 0
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).with_suffix("").as_posix()
        if path.name == "404.html":
            continue  # its links start at the root
        page.goto(f"{served}/{name}.html")
        marked = page.locator(".arithmatex").count()
        if marked:
            page.wait_for_function(
                "n => document.querySelectorAll('.arithmatex mjx-container > svg').length === n", arg=marked
            )
            assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, name
            formulas += marked
        for place, suffix, size in sizes:
            page.set_viewport_size(size)  # type: ignore[arg-type]  # a plain dictionary with its keys
            complaints += [f"{name} {place}: {words}" for words in page.evaluate(TOO_WIDE)]
            if page.evaluate(INVISIBLE):
                complaints.append(f"{name} {place}: a formula takes no room")
            if size is PHONE:
                complaints += [f"{name} {place}: {words} is cut" for words in page.evaluate(CUT)]
            if name in MAIN:
                screenshot(page, name.replace("/", "-") + suffix)
        sizes.reverse()  # the next page is loaded at the last size of this one: a change of size takes long
    assert formulas
    assert complaints == []


def found(page: Page, query: str) -> list[str]:
    """Return the pages that the search finds, best first."""
    page.reload()  # the results of the query before would be taken for those of this one
    results = page.locator(".md-search-result__item")
    ends = time.monotonic() + SEARCH_SECONDS
    while not results.count() and time.monotonic() < ends:
        # The page reads what is typed at the end of a key, and once soon after the field gets the focus: on a
        # busy machine that is before `fill`, which presses no key.
        page.fill(".md-search__input", query)
        page.press(".md-search__input", "End")
        page.wait_for_timeout(200)
    assert results.count(), f"{query}: nothing is found in {SEARCH_SECONDS:.0f} s"
    links = page.locator(".md-search-result__item > a").evaluate_all("all => all.map(a => a.href)")
    return [link.partition("?")[0].partition("#")[0] for link in links]


def test_search_from_a_folder(site: Path, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """From file:// too, names and options are found, and the specification is above the API."""
    page, complaints = opened()
    page.goto((site / "index.html").as_uri())
    base = site.as_uri()
    assert f"{base}/spec/dot-product.html" in found(page, "sign_epi8")[:6]
    assert found(page, "--symbol")[0] == f"{base}/command-line.html"
    for query in ("order", "quantize"):
        links = found(page, query)
        places = [[i for i, link in enumerate(links) if f"/{part}/" in link] for part in ("spec", "api")]
        assert min(places[0]) < min(places[1]), query
    screenshot(page, "search")
    assert complaints == []


def test_search_in_korean(site: Path, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """The Korean site finds Korean words with any particle behind them, and names."""
    page, complaints = opened()
    page.goto((site / "ko/index.html").as_uri())
    base = (site / "ko").as_uri()
    for query, name in (("역양자화", "dequantization"), ("누산기", "orders"), ("스택", "kernel")):
        assert found(page, query)[0] == f"{base}/spec/{name}.html", query
    assert f"{base}/spec/dot-product.html" in found(page, "sign_epi8")[:3]
    assert complaints == []


def test_language_switch_and_themes(served: str, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """The switches lead to the Korean page and back, and to the dark theme, which the next page keeps."""
    page, complaints = opened(color_scheme="light")
    page.goto(f"{served}/index.html")
    page.hover(".md-header .md-select")
    page.click(".md-select__link[hreflang=ko]")
    assert page.url == f"{served}/ko/index.html"
    assert page.locator("html").get_attribute("lang") == "ko"
    page.hover(".md-header .md-select")
    page.click(".md-select__link[hreflang=en]")
    assert page.url == f"{served}/index.html"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("label[title='To the dark theme']")
    page.goto(f"{served}/spec/layout.html")
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    screenshot(page, "spec-layout-dark")
    page.goto(f"{served}/index.html")
    screenshot(page, "index-dark")
    assert complaints == []


def test_copy_has_no_prompt(served: str, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """Copying a block with prompts gives its commands alone."""
    page, complaints = opened(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{served}/certificates.html")
    block = page.locator(".highlight", has_text="$ q8a8 certify ref").first
    block.hover()
    block.locator("button[data-clipboard-target], button.md-code__button").first.click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("q8a8 certify ref")
    assert "$" not in copied
    assert complaints == []


def test_long_tables(served: str, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """A long table is filtered by words and sorted by a column, numbers by their value."""
    page, complaints = opened()
    page.goto(f"{served}/mutants.html")
    bar = page.locator(".rows").first
    table = page.locator(".rows + * table, .rows + table").first
    rows = table.locator("tbody tr:visible")
    every = rows.count()
    bar.locator("input").fill("scale")
    assert 0 < rows.count() < every
    assert bar.locator("output").inner_text() == f"{rows.count()} of {every} rows"
    bar.locator("input").fill("")
    header = table.locator("th button").first
    for direction in ("ascending", "descending"):
        header.click()
        assert header.locator("..").get_attribute("aria-sort") == direction
        first = table.locator("tbody tr td:first-child").all_inner_texts()
        assert first != sorted(first) or direction == "ascending"
    assert complaints == []


def test_report_of_a_failing_kernel(tmp_path: Path, opened: Callable[..., tuple[Page, list[str]]]) -> None:
    """The HTML report keeps its columns on a phone's screen, and has the text of each rule."""
    target = tmp_path / "report.html"
    judged = [
        "test",
        "py:q8a8_conformance.mutants:round_half_even",
        "--rules",
        "Q8A8-QNT-4",
        "--case",
        "activation/ties",
    ]
    assert cli.main([*judged, "--html", str(target)]) == 1
    for size, scheme in ((DESK, "light"), (PHONE, "dark")):
        page, complaints = opened(size, color_scheme=scheme)
        page.goto(target.as_uri())
        assert page.evaluate(TOO_WIDE) == []
        cells = page.locator("td").evaluate_all("all => all.map(cell => cell.getBoundingClientRect().right)")
        assert cells
        assert max(cells) <= size["width"]
        rule = page.locator("tr", has=page.locator("#q8a8-qnt-4"))
        rule.locator("summary").click()
        assert "halves away from zero" in rule.inner_text()
        screenshot(page, f"report-{scheme}")
        assert complaints == []
