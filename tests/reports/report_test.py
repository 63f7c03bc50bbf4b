"""Reports of a real run, whole and damaged, without a browser (see report_browser_test.py)."""

import functools
import html.parser
import json
import pathlib
import random
import re
import shlex
import shutil

import markdown
import pytest
from command_line import check_message, finished
from example import EXAMPLE, RECORDS, copied
from hypothesis import given, settings
from hypothesis import strategies as st

from tas_tf.errors import RunDirectoryError
from tas_tf.reports import pages, run_records
from tas_tf.reports.report import write_comparison, write_report
from tas_tf.reports.sections import sections

VOID = {"meta", "link", "br", "img", "input", "hr"}


def read_json(path):
    return json.loads(path.read_text())


@pytest.fixture
def run(tmp_path):
    """A copy of the run, that a test may damage."""
    return copied(tmp_path / "run")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The whole run's page and its twin."""
    folder = copied(tmp_path_factory.mktemp("whole") / "run")
    return [pathlib.Path(path).read_text() for path in write_report(str(folder))]


def written(run) -> str:
    """The page of a run."""
    path, twin = write_report(str(run))
    assert pathlib.Path(twin).read_text().startswith("# ")
    return pathlib.Path(path).read_text()


class Structure(html.parser.HTMLParser):
    """Follows a page's elements; refuses one that is not closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.text.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def test_page_needs_nothing_from_elsewhere(report):
    page = Structure(report[0])
    assert [] == page.all("script") + page.all("img") + page.all("iframe")
    for tag, attributes in page.seen:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, target)
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", report[0])
    assert "http" not in without_names
    assert not re.search(r"@import|url\((?!#)", report[0])


def test_page_is_well_formed_and_described(report):
    page = Structure(report[0])
    assert page.all("html") == [{"lang": "en"}]
    assert "width=device-width" in str(page.all("meta"))
    ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"][1:] for attributes in page.all("a")]
    assert links and set(links) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.seen if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    pictures = page.all("svg")
    assert len(pictures) == len(page.all("figure")) == len(page.all("figcaption")) >= 7
    assert all(p["role"] == "img" and len(p["aria-label"]) > 30 for p in pictures)
    assert all({"scope"} <= set(cell) for cell in page.all("th"))


def test_page_is_small(report):
    assert len(report[0].encode()) < 500_000


def test_numbers_are_those_of_the_run(report):
    for text in report:
        text = text.replace("\N{NO-BREAK SPACE}", " ")
        for part in ("teacher", "student", "student_kd"):
            result = read_json(EXAMPLE / part / "result.json")
            assert f"{100 * result['test']['accuracy']:.2f} %" in text
        (budget,) = read_json(EXAMPLE / "search/result.json")["derivation"]["budgets"].values()
        assert f"{budget['cost'] / 1e6:.4g} M" in text
        assert f"{100 * budget['cost'] / budget['unpruned']:.1f} %" in text
        data = read_json(EXAMPLE / "search/data.json")
        for name in ("weights", "architecture", "test"):
            assert f"{data['splits'][name]['images']:,}" in text
            assert data["splits"][name]["fingerprint"][:12] in text
        assert read_json(EXAMPLE / "search/machine.json")["versions"]["tensorflow"] in text
        assert "What is missing" not in text


def test_layers_are_those_of_the_network(report):
    layers = read_json(EXAMPLE / "search/architecture.json")["stages"]
    first, second = layers[0][0]
    assert f"{first} → {second}" in report[0] and f"{first} → {second}" in report[1]
    assert report[1].count("stage1 block1 conv1") == 1


def test_twin_is_the_same_in_markdown(report):
    page = Structure(markdown.markdown(report[1], extensions=["tables", "fenced_code"]))
    tables = [len(Structure(text).all("table")) for text in report[:1]] + [len(page.all("table"))]
    assert tables[0] == tables[1]
    assert len(Structure(report[0]).all("tr")) == len(page.all("tr"))
    assert len(page.all("img")) == report[0].count("<figure>")
    assert len(page.all("h2")) == report[0].count("<h2 ")


def test_twins_pictures_lie_beside_it(run):
    written(run)
    named = re.findall(r"\]\((.+?\.svg)\)", (run / "report.md").read_text())
    assert sorted(named) == sorted(
        str(path.relative_to(run)) for path in run.rglob("report_pictures/*")
    )


def test_committed_example_is_what_the_code_writes(report):
    """But for its pictures, which another version of matplotlib may write otherwise."""
    for text, name in zip(report, ("report.html", "report.md"), strict=True):
        expected = (EXAMPLE / name).read_text()
        texts = [re.sub("<svg.*?</svg>", "", each, flags=re.DOTALL) for each in (text, expected)]
        texts = [re.sub(r"--gin_file=\S*config.gin", "", each) for each in texts]
        assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "config",
    [None, "", "run_search.epochs = 3\n", "run_search.epochs = 3\nrun_training.seed = 1\n"],
)
def test_run_that_has_hardly_begun(tmp_path, config):
    if config is not None:
        (tmp_path / "config.gin").write_text(config)
    page = written(tmp_path)
    assert "What is missing" in page
    assert ("The directory is empty" in page) == (config is None)
    assert ("teacher/ is not there" in page) == ("run_training" in (config or ""))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("student", "student/ is not there"),
        ("student_kd/result.json", "student_kd/result.json is missing: this part has not finished"),
        ("search/result.json", "search/result.json is missing"),
        ("search/space.json", "search/space.json is missing"),
        ("search/metrics.jsonl", "search/metrics.jsonl is missing: no epoch has ended"),
        ("search/logits.json", "search/logits.json"),
        ("teacher/config.gin", "teacher/config.gin is missing"),
        ("config.gin", "The directory: config.gin is missing"),
    ],
)
def test_what_is_gone_is_said_and_the_rest_is_shown(run, gone, said):
    shutil.rmtree(run / gone) if (run / gone).is_dir() else (run / gone).unlink()
    read = run_records.read_run(str(run))
    assert any(text.startswith(said) for text in read.missing), read.missing
    titles = [section.title for section in sections(read) if section.content]
    assert {"What is missing", "What was found", "What it gives"} <= set(titles)


def test_half_finished_run(run):
    """As a run looks that was stopped in its search, its last line cut off."""
    for part in ("student", "student_kd", "export"):
        shutil.rmtree(run / part)
    for name in ("result.json", "architecture.json", "logits.json"):
        (run / "search" / name).unlink()
    metrics = run / "search/metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])
    page = written(run)
    epochs = len((EXAMPLE / "search/metrics.jsonl").read_text().splitlines())
    assert f"most probable after epoch {epochs - 1}" in page
    assert f"So far {epochs - 1} of {epochs} epochs are done." in page
    assert f"search/metrics.jsonl, line {epochs} is damaged" in page
    assert "student/ is not there: this part has not begun." in page
    teacher = read_json(EXAMPLE / "teacher/result.json")["test"]["accuracy"]
    assert f"{100 * teacher:.2f}\N{NO-BREAK SPACE}%" in page


DAMAGES = [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"step": NaN}', b"[" * 50_000]


@pytest.mark.parametrize("name", [name for name in RECORDS if not name.endswith(".gin")])
def test_what_is_damaged_is_named(run, name):
    for damage in DAMAGES:
        (run / name).write_bytes(damage)
        read = run_records.read_run(str(run))
        if name.endswith("metrics.jsonl") and not damage:
            continue  # no epoch has ended
        assert any(name in text for text in read.missing), (damage, read.missing)
    sections(read)


@functools.cache
def whole() -> run_records.Run:
    return run_records.read_run(str(EXAMPLE))


def check_no_harm(run: pathlib.Path, record: str) -> None:
    """Asserts that damage to one record leaves other parts as they are, and something to show."""
    read = run_records.read_run(str(run))
    assert read.parts.keys() == whole().parts.keys()
    for name, part in read.parts.items():
        if record.partition("/")[0] != name:
            assert repr(part) == repr(whole().parts[name]), (record, name)
    shown = {section.title for section in sections(read) if section.content}
    assert {"What was asked", "What it gives", "What it took", "How to repeat it"} <= shown


HOSTILE = [None, True, -1, 0, 1e308, 10**30, "", "x" * 10_000, "<script>", [], {}, [[]], {"a": {}}]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_value_that_is_not_what_it_should_be_does_no_harm(data, tmp_path_factory):
    run = copied(tmp_path_factory.mktemp("fuzz"))
    record = data.draw(st.sampled_from([n for n in RECORDS if not n.endswith(".gin")]))
    path = run / record
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    index = data.draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[index])
    place, key = value, data.draw(st.sampled_from(sorted(value)))
    while data.draw(st.booleans()) and isinstance(place[key], (dict, list)) and place[key]:
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
    place[key] = data.draw(st.sampled_from(HOSTILE))
    lines[index] = json.dumps(value)
    path.write_text("\n".join(lines))
    check_no_harm(run, record)


@pytest.mark.slow
def test_bytes_that_are_not_what_they_should_be_do_no_harm(tmp_path):
    draw = random.Random(0)
    for name in RECORDS:
        run = copied(tmp_path / "run")
        content = bytearray((run / name).read_bytes())
        for _ in range(5):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (run / name).write_bytes(content[: draw.randrange(len(content) + 1)])
        check_no_harm(run, name)


def test_what_a_run_directory_says_is_text(run):
    data = read_json(run / "search/data.json")
    data["dataset"] = "<script>alert(1)</script> | `x` [y](http://z)"
    for part in ("teacher", "search", "student", "student_kd"):
        (run / part / "data.json").write_text(json.dumps(data))
    page = written(run)
    assert "<script" not in page and "&lt;script&gt;" in page
    twin = markdown.markdown((run / "report.md").read_text(), extensions=["tables"])
    assert "<script" not in twin and "<a " not in twin


def test_command_is_shown_as_a_shell_reads_it(run):
    command = ["python", "-m", "tas_tf.train", "--a=b c", "--d='e'", "--f='$g'", "h i", "--j", ""]
    machine = read_json(run / "teacher/machine.json") | {"command": command}
    (run / "teacher/machine.json").write_text(json.dumps(machine))
    (code,) = [
        element
        for element in sections(run_records.read_run(str(run / "teacher")))[-1].content
        if isinstance(element, pages.Code) and "given" in element.caption
    ]
    assert shlex.split(code.text) == command
    assert "--a='b c'" in code.text and "--d=\"'e'\"" in code.text


def test_parts_have_reports_of_their_own(run):
    search, training = written(run / "search"), written(run / "student_kd")
    assert "How the search went" in search and "What it gives" not in search
    assert "What it gives" in training and "How the search went" not in training
    assert "learns from the unpruned network" in training


def test_further_budgets_and_a_budget_that_was_missed(run):
    for name in ("0.3", "parameters_0.5"):
        (run / "search/derived" / name).mkdir(parents=True)
        shutil.copy(run / "search/architecture.json", run / "search/derived" / name)
    (run / "search/derived/0.3/architecture.json").write_text("{")
    result = read_json(run / "search/result.json")
    result["derivation"]["in_band"] = False
    (run / "search/result.json").write_text(json.dumps(result))
    page = written(run)
    assert "derived for parameters_0.5" in page and "derived for 0.3" not in page
    assert "search/derived/0.3/architecture.json is damaged" in page
    assert "OUTSIDE the budget&#39;s band" in page


def test_comparison(run, tmp_path):
    other = copied(tmp_path / "other")
    result = read_json(other / "student/result.json")
    result["test"]["accuracy"] = 0.4321
    (other / "student/result.json").write_text(json.dumps(result))
    page, twin = write_comparison([str(run), str(other)], str(tmp_path))
    text = pathlib.Path(page).read_text()
    assert "1  run" in text and "2  other" in text
    assert "43.21\N{NO-BREAK SPACE}%" in text and "43.21" in pathlib.Path(twin).read_text()
    assert "ResNet-164" in text and "600 epochs of search and 300 of training" in text
    assert Structure(text).all("svg")


def test_comparison_of_what_has_no_result(tmp_path):
    paths = [str(tmp_path / name) for name in ("one", "two")]
    for path in paths:
        pathlib.Path(path).mkdir()
    page, _ = write_comparison(paths, str(tmp_path))
    assert "None of the runs has a trained network yet" in pathlib.Path(page).read_text()


def test_no_directory_is_a_mistake(tmp_path):
    with pytest.raises(RunDirectoryError, match="is no directory"):
        write_report(str(tmp_path / "nowhere"))


def test_command(run, tmp_path):
    code, stdout, stderr = finished("report", f"--run_dir={run}", cwd=tmp_path)
    assert (code, stderr) == (0, "")
    assert f"{run}/report.html" in stdout and (run / "report.html").is_file()


def test_command_without_a_run(tmp_path):
    code, _, stderr = finished("report", cwd=tmp_path)
    assert code == 2
    check_message(stderr, "--run_dir: the directory of a run is needed")
