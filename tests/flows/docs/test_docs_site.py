"""The site that `make site` builds: every page is in it, every link leads somewhere, no foreign host is asked."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pageblocks import NAMES, ROOT

_LINK = re.compile(r"(?<!`)\[[^\]\[]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", text)


def anchors(page: Path) -> set[str]:
    """What headings are called in links, by the rule of code hosts; the second of a name gets -1."""
    found: dict[str, int] = {}
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for title in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
    return {name if i == 0 else f"{name}-{i}" for name, count in found.items() for i in range(count + 1)}


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md"])
def test_links_of_the_pages(name: str) -> None:
    page = ROOT / name
    for target in _LINK.findall(without_code(page.read_text())):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme in ("https", "mailto"), target
            continue
        path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert path.exists(), f"{name}: {target}"
        assert path.is_relative_to(ROOT), f"{name}: {target}"
        if parts.fragment:
            assert parts.fragment in anchors(path), f"{name}: {target}"


def test_anchors_are_those_of_code_hosts(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Fair, `optimal`\n## S3 timeouts\n```\n# no heading\n```\n## S3 timeouts\n### A [link](x.md)\n")
    assert anchors(page) == {"fair-optimal", "s3-timeouts", "s3-timeouts-1", "a-link"}


class _Reader(HTMLParser):
    """The links of a page, what the browser fetches for it, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.fetched, self.names = list[str](), list[str](), set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names |= {given["id"]} if "id" in given else set()
        if "src" in given or (tag == "link" and "href" in given):
            self.fetched.append(given.get("src") or given["href"])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, _Reader]:
    """The pages of the site, built from a copy of docs/."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {page: _Reader(page.read_text()) for page in (folder / "site").rglob("*.html")}


def _listed(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, (list, dict)):
        for one in nav.values() if isinstance(nav, dict) else nav:
            yield from _listed(one)


def test_the_site_has_every_page(site: dict[Path, _Reader]) -> None:
    listed = set(_listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert listed == {name.removeprefix("docs/") for name in NAMES if name.startswith("docs/")}
    assert len(site) == len(listed) + 1  # and that for what is not found


def test_the_links_of_the_site(site: dict[Path, _Reader]) -> None:
    for page, read in site.items():
        if page.name == "404.html":
            continue  # its links are of the host
        for target in read.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            other = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            other = other / "index.html" if other.is_dir() else other
            assert other.exists(), f"{page.name}: {target}"
            if parts.fragment and other in site:
                assert unquote(parts.fragment) in site[other].names, f"{page.name}: {target}"


def test_the_site_asks_no_other_host(site: dict[Path, _Reader]) -> None:
    fetched = {target for read in site.values() for target in read.fetched}
    assert fetched
    assert [target for target in fetched if urlsplit(target).netloc] == []
