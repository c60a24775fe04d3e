"""The pages in a real browser: no errors, no foreign host, keys, the slider, narrow screens, light and dark."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pagekit import ANNOTATED, DETECTED, FULL, SCORED, Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip
PAGES = ["/", "/datasets/odd.name_1-2@1", "/datasets/digits@1/samples/3", "/selections", "/selections/some-0@1",
         "/compare?ref=some-0&ref=some-1", f"/runs/{FULL}", f"/runs/{SCORED}", f"/losses/{FULL}",
         f"/detections/{DETECTED}?other={ANNOTATED}", "/packages/doors@1", "/costs",
         "/sql?q=from+selections"]  # fmt: skip
WAIT = 60_000.0  # ms, on a busy machine

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
# asyncio leaves the loop that Playwright ran on to the collector.
quiet = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=WAIT)
        yield browser
        browser.close()


class Looked:
    """A tab, and what it heard.

    Args:
        browser: that it is of.
        base: address of the page.
        options: of the browser's context.
    """

    def __init__(self, browser: "Browser", base: str, **options: Any) -> None:
        self.base, self.said, self.asked = base, list[str](), list[str]()
        self.context = browser.new_context(**({"viewport": {"width": 1200, "height": 800}} | options))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> "Page":
        self.page.goto(self.base + path, wait_until="networkidle")
        return self.page

    def until(self, said: str) -> None:
        """Wait until an expression is true; by looking, as the page's policy lets nothing evaluate in it."""
        end = time.monotonic() + WAIT / 1e3
        while not self.page.evaluate(said):
            assert time.monotonic() < end, said
            self.page.wait_for_timeout(30)

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def tab(browser: "Browser", page: Served) -> Iterator[Looked]:
    looked = Looked(browser, page.url)
    yield looked
    looked.close()
    assert looked.said == []
    assert [url for url in looked.asked if not url.startswith((page.url, "data:"))] == []


@quiet
def test_pages_load_whole_and_ask_no_other_host(tab: Looked) -> None:
    """What comes later has come, and every image is there; the tab hears no error."""
    for path in PAGES:
        page = tab.open(path)
        assert page.locator(".wait").count() == 0, path
        page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        tab.until("[...document.images].every(i => i.complete)")
        assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == [], path
        assert page.evaluate("document.querySelectorAll('[id]').length") == page.evaluate(
            "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size"
        )


@quiet
def test_the_slider_moves_the_cut(tab: Looked) -> None:
    page = tab.open("/selections/some-0@1")
    assert page.locator(".kept .pager").inner_text().startswith("1 to 30 of 400 kept")
    slider = page.locator("#k")
    slider.focus()
    slider.press("Home")
    page.wait_for_url(re.compile(r"k=1\b"))
    tab.until("document.querySelector('.kept .pager').innerText.startsWith('1 to 1 of 1 kept')")
    assert page.locator("#shown").inner_text() == "1"
    assert page.locator(".dropped li").first.locator(".below span").inner_text() == "2"
    tab.until("document.body.innerText.includes('Class balance of the first 1')")
    for _ in range(4):
        slider.press("ArrowRight")
    tab.until("document.querySelectorAll('.kept li').length === 5")
    page.reload(wait_until="networkidle")  # the cut is in the address
    assert page.locator(".kept li").count() == 5


@quiet
def test_pages_of_images_change_in_place(tab: Looked) -> None:
    page = tab.open("/selections/some-0@1?k=100")
    page.evaluate("window.stays = true")
    page.locator(".kept .pager a[rel=next]").click()
    tab.until("document.querySelector('.kept .pager').innerText.startsWith('31 to 60')")
    assert page.evaluate("window.stays") is True
    page.go_back()
    page.locator(".kept .pager").get_by_text("1 to 30 of 100 kept").wait_for()


@quiet
def test_by_keyboard_alone(tab: Looked) -> None:
    page = tab.open("/datasets/digits@1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("]")
    tab.until("document.querySelector('#grid .pager').innerText.startsWith('61 to 120')")
    page.keyboard.press("[")
    tab.until("document.querySelector('#grid .pager').innerText.startsWith('1 to 60')")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("some-2/")  # typed, and no key of the page any more
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/selections\?q=some-2$"))
    assert page.locator("tbody tr").count() == 1
    page.goto(f"{tab.base}/sql", wait_until="networkidle")
    page.locator("#q").fill("select 41 + 1 as answer")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answer td")
    assert page.locator("#answer td").inner_text() == "42"
    styles = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Tab")
    assert page.evaluate(styles) == "solid"  # where the focus is can be seen


@quiet
def test_names_that_are_hostile_are_text(tab: Looked) -> None:
    page = tab.open("/datasets/odd.name_1-2@1")
    assert "<script>alert(1)</script>" in page.locator("main").inner_text()
    assert page.evaluate("document.querySelectorAll('main script, main b > b').length") == 0
    page = tab.open("/runs?status=failed")
    assert page.locator("tbody tr").count() == 1


@quiet
def test_narrow_screens_scroll_down_and_not_sideways(browser: "Browser", page: Served) -> None:
    tab = Looked(browser, page.url, viewport={"width": 360, "height": 640})
    for path in PAGES:
        shown = tab.open(path)
        assert shown.evaluate("document.documentElement.scrollWidth") <= 360, path
    tab.close()
    assert tab.said == []


def brightness(colour: str) -> float:
    """0 to 1, of rgb(r, g, b)."""
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 765


@quiet
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser: "Browser", page: Served, scheme: str, tmp_path_factory: Any) -> None:
    """By the system's wish; the toggle wins, and lasts."""
    tab = Looked(browser, page.url, color_scheme=scheme)
    shown = tab.open("/selections/some-0@1")
    paper, ink = (f"getComputedStyle(document.body).{name}" for name in ("backgroundColor", "color"))
    first = brightness(shown.evaluate(paper)), brightness(shown.evaluate(ink))
    assert abs(first[0] - first[1]) > 0.6
    assert (first[0] > first[1]) == (scheme == "light")
    folder = os.environ.get("TAMIS_SCREENSHOTS")
    if folder:
        shown.screenshot(path=f"{folder}/selection-{scheme}.png", full_page=True)
    shown.locator("[data-theme-toggle]").click()
    assert (brightness(shown.evaluate(paper)) > 0.5) == (scheme == "dark")
    shown.goto(f"{tab.base}/sql", wait_until="networkidle")
    assert (brightness(shown.evaluate(paper)) > 0.5) == (scheme == "dark")
    tab.close()
    assert tab.said == []


@quiet
def test_without_scripts_pages_work(browser: "Browser", page: Served) -> None:
    tab = Looked(browser, page.url, java_script_enabled=False)
    shown = tab.open("/selections/some-0@1?k=10")
    assert shown.locator(".kept li").count() == 10
    shown.locator(".dropped .pager a[rel=next]").click()
    shown.wait_for_url(re.compile("dropped=2"))
    shown.get_by_role("link", name="open as a page").first.click()
    shown.wait_for_url(re.compile("/classes"))
    assert shown.locator("svg[role=img]").count() == 1
    tab.close()


@quiet
def test_a_foreign_page_learns_and_changes_nothing(browser: "Browser", page: Served) -> None:
    """A page of another origin posts a form, and asks by script, image and frame."""
    tab = Looked(browser, page.url)
    shown = tab.page
    foreign = f"""<form id=f method=post action="{page.url}/sql"><input name=q value="drop table runs"></form>
        <iframe src="{page.url}/selections"></iframe><img src="{page.url}/images/digits@1/0">"""
    shown.route("http://evil.example/*", lambda route: route.fulfill(body=foreign, content_type="text/html"))
    shown.goto("http://evil.example/")
    assert shown.evaluate(f"fetch('{page.url}/selections.json').then(r => r.text()).catch(e => 'refused')") == "refused"
    assert shown.evaluate("document.images[0].naturalWidth") == 0
    assert all("some-0" not in (frame.content() if "evil" not in frame.url else "") for frame in shown.frames)
    with shown.expect_navigation():
        shown.evaluate("document.getElementById('f').submit()")
    assert "refused" in shown.locator("body").inner_text()
    tab.close()


@quiet
def test_a_report_is_one_file(browser: "Browser", page: Served, tmp_path_factory: Any) -> None:
    from tamis.flows.web.alone import write

    out = tmp_path_factory.mktemp("report") / "report.html"
    assert write(page.store, ["some-0", "some-1"], str(out), first=50, images=6) == ["some-0@1", "some-1@1"]
    tab = Looked(browser, "")
    shown = tab.open(f"file://{out}")
    assert shown.locator(".kept li").count() == 12
    assert shown.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert "Jaccard" in shown.locator("main").inner_text()
    assert shown.locator("script, link, main a[href]").count() == 0
    tab.close()
    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith(("file:", "data:"))] == []
