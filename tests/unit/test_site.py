"""The documentation's site, built strictly: every page is in it, and reading it asks no other host."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Resources(HTMLParser):
    """Addresses that a browser loads to show a page; those that a reader may follow are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loaded = [given.get("src"), given.get("srcset"), given.get("href") if tag == "link" else None]
        self.addresses += [address for address in loaded if address]


def resources(page: str) -> list[str]:
    parser = Resources()
    parser.feed(page)
    return parser.addresses


def is_elsewhere(address: str) -> bool:
    return re.match(r"(?:[a-z]+:)?//", address) is not None


def test_site_has_every_page_and_picture(site: Path) -> None:
    made = {path.relative_to(site) for path in site.rglob("*") if path.is_file()}
    pictures = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs" / "pictures").iterdir()}
    assert {page.with_suffix(".html") for page in PAGES} | pictures <= made


def test_site_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = {str(path.relative_to(site)): resources(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > len(PAGES)
    assert all(len(addresses) > 3 for addresses in pages.values())
    assert {page: [a for a in addresses if is_elsewhere(a)] for page, addresses in pages.items()} == {
        page: [] for page in pages
    }


def test_site_styles_and_pictures_load_nothing_from_other_hosts(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in {".css", ".svg"}]
    assert {path.suffix for path in files} == {".css", ".svg"}
    assert [address for path in files for address in _referred(path.read_text()) if is_elsewhere(address)] == []


def test_site_has_no_diagram_drawn_by_another_hosts_script(site: Path) -> None:
    """Material fetches Mermaid from another host for such a block."""
    assert [path.name for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()] == []


def test_address_of_another_host_would_be_found() -> None:
    page = '<link href="//fonts.example/a.css"><img src="a.png"><script src="https://x.example/a.js"></script><a href="https://y.example">'
    assert [a for a in resources(page) if is_elsewhere(a)] == ["//fonts.example/a.css", "https://x.example/a.js"]
    assert list(_referred("@font-face { src: url('https://x.example/f.woff') }")) == ["https://x.example/f.woff"]


def _referred(text: str) -> Iterator[str]:
    for quoted, imported, linked in re.findall(
        r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)|(?:xlink:)?href=\"([^\"]+)\"", text
    ):
        yield quoted or imported or linked
