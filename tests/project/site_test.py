"""The documents as a site: it builds strictly, reads as on a code host, and asks no other host."""

import collections
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import readme_renderer.markdown
from checkout import ROOT

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"]
PAGES += [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
# What readers see as a list, a table or code: Python-Markdown, which builds the site, takes it
# elsewhere for running text where a blank line or an indentation of four is missing.
STRUCTURE = ("h1", "h2", "h3", "li", "td", "th", "img")


def build(checkout: pathlib.Path, site: pathlib.Path) -> subprocess.CompletedProcess:
    """Builds as tools/site does, once the packages are installed."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def article(site: pathlib.Path, page: str) -> str:
    """What a page of the site says, without the navigation around it."""
    path = pathlib.Path(page)
    folder = path.parent if path.name == "README.md" else path.with_suffix("")
    text = (site / folder / "index.html").read_text()
    return re.search(r"<article.*?</article>", text, re.DOTALL)[0]


def structure(html: str) -> dict[str, int]:
    found = collections.Counter(re.findall(r"<(\w+)[ >]", html))
    return {tag: found[tag] for tag in STRUCTURE}


@pytest.mark.parametrize("page", PAGES)
def test_page_has_the_lists_tables_and_headings_of_its_source(site, page):
    source = readme_renderer.markdown.render((ROOT / page).read_text())
    assert structure(article(site, page)) == structure(source)


def test_diagrams_are_drawn(site):
    text = article(site, "README.md")
    assert "<figure><svg" in text and "spec_compiler" in text
    assert "flowchart TB" not in text


def test_no_page_loads_anything_from_another_host(site):
    loads = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//"
        r"|@import\s|url\([\"']?(?:https?:)?//"
    )
    read = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(read) > len(PAGES)
    for path in read:
        assert not loads.search(path.read_text()), path


@pytest.mark.parametrize("link", ["nowhere.md", "tutorial.md#nowhere", "../tools/test", "#nowhere"])
def test_a_link_that_leads_nowhere_ends_the_build(link, tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("mkdocs.yml", "tools/site_pages.py", *PAGES[:4]):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    shutil.copytree(ROOT / "docs", checkout / "docs")
    with (checkout / "docs/runs.md").open("a") as page:
        page.write(f"\n[a link]({link})\n")
    done = build(checkout, tmp_path / "site")
    assert done.returncode != 0
    assert "docs/runs.md" in done.stderr and link.split("/")[-1] in done.stderr
