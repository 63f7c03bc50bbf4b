"""The report in a real browser: no horizontal scroll on a phone, no complaint, both themes."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest
from example import copied

from tas_tf.reports.report import write_comparison, write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--allow-file-access-from-files --virtual-time-budget=5000 --enable-logging=stderr"
).split()
# Shows a page as wide as a phone or a screen, and writes down what it measures.
FRAME = """<!doctype html><meta charset="utf-8"><title>frame</title>
<iframe id="frame" src="{page}" style="width:{width}px;height:800px;border:0"></iframe>
<script>
const frame = document.getElementById('frame');
frame.onload = () => {{
  const inside = frame.contentDocument, root = inside.documentElement;
  const style = element => frame.contentWindow.getComputedStyle(element);
  const colour = style(inside.body).backgroundColor;
  const texts = [...inside.querySelectorAll('svg text')];
  document.body.dataset.found = JSON.stringify({{
    scrolls: root.scrollWidth > root.clientWidth,
    paper: colour,
    ink: style(inside.body).color,
    figures: inside.querySelectorAll('figure svg').length,
    drawn: [...inside.querySelectorAll('figure svg')].every(e => e.clientHeight > 80),
    picture_ink: style(texts[0]).fill,
    outside: frame.contentWindow.performance.getEntriesByType('resource').length,
  }});
}};
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("browser")
    runs = [str(copied(folder / name)) for name in ("one", "two")]
    page, _ = write_report(runs[0])
    comparison, _ = write_comparison(runs)
    return {"report": pathlib.Path(page), "comparison": pathlib.Path(comparison)}


def shown(browser, page, folder, width=390, dark=False):
    """What a browser finds on a page, and what it says meanwhile."""
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=page.as_uri(), width=width))
    theme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [browser, *FLAGS, theme, f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, "--window-size=1400,900", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]+)"', done.stdout)
    assert found, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found[1].replace("&quot;", '"')), complaints


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_its_window_and_says_nothing(browser, pages, tmp_path, name, width):
    found, complaints = shown(browser, pages[name], tmp_path, width)
    assert not found["scrolls"]
    assert found["figures"] >= 3 and found["drawn"]
    assert found["outside"] == 0
    assert complaints == []


def test_page_and_pictures_follow_the_theme(browser, pages, tmp_path):
    light, _ = shown(browser, pages["report"], tmp_path)
    dark, _ = shown(browser, pages["report"], tmp_path, dark=True)
    assert light["paper"] == "rgb(255, 255, 255)" and dark["paper"] != light["paper"]
    for found in (light, dark):
        assert found["picture_ink"] == found["ink"]
