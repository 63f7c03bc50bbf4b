"""tools/show_architecture.py, run as people run it."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "show_architecture.py"
FIELDS = {
    "schema_version": 1,
    "name": "a small one",
    "family": "cifar_resnet",
    "block": "basic",
    "input_shape": [11, 13, 3],
    "num_classes": 10,
    "stem_width": 6,
    "stages": [[[4, 6]], [[12, 9], [7, 9]], [[20, 5]]],
}

TABLE = """\
a small one: cifar_resnet of basic blocks, images 11 x 13 x 3, 10 classes
stage 1, 1 block: 4-6
stage 2, 2 blocks: 12-9 7-9
stage 3, 1 block: 20-5

layer                     kernel  stride  channels   output    MACs  parameters
stem                      3x3          1   3 -> 6   11 x 13  23,166         174
stage1_block1_conv1       3x3          1   6 -> 4   11 x 13  30,888         224
stage1_block1_conv2       3x3          1   4 -> 6   11 x 13  30,888         228
stage2_block1_conv1       3x3          2   6 -> 12    6 x 7  27,216         672
stage2_block1_conv2       3x3          1  12 -> 9     6 x 7  40,824         990
stage2_block1_projection  1x1          2   6 -> 9     6 x 7   2,268          54
stage2_block2_conv1       3x3          1   9 -> 7     6 x 7  23,814         581
stage2_block2_conv2       3x3          1   7 -> 9     6 x 7  23,814         585
stage3_block1_conv1       3x3          2   9 -> 20    3 x 4  19,440       1,660
stage3_block1_conv2       3x3          1  20 -> 5     3 x 4  10,800         910
stage3_block1_projection  1x1          2   9 -> 5     3 x 4     540          45
classifier                1x1          1   5 -> 10    1 x 1      50          60

macs                           233,708
trainable_parameters             6,183
"""


def show(*arguments, **options) -> subprocess.CompletedProcess:
    # -I: neither the working directory nor PYTHONPATH helps to find tas_tf.
    command = [sys.executable, "-I", str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=30, **options)


@pytest.fixture
def write(tmp_path):
    def write(content) -> pathlib.Path:
        path = tmp_path / "architecture.json"
        text = json.dumps(content) if isinstance(content, dict) else content
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path) -> str:
    shown = show(path)
    message = shown.stderr.decode()
    assert (shown.returncode, shown.stdout) == (2, b"")
    assert message.startswith(f"{path}: ") and message.count("\n") == 1 and len(message) < 500
    return message


def test_table(write):
    shown = show(write(FIELDS), cwd="/")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.decode() == TABLE


def test_json(write):
    described = json.loads(show(write(FIELDS), "--json").stdout)
    assert list(described) == [
        *("name", "family", "block", "input_shape", "num_classes", "layers"),
        *("macs", "trainable_parameters"),
    ]
    assert described["input_shape"] == [11, 13, 3]
    assert described["layers"][4] == {
        "name": "stage2_block1_conv2",
        "kind": "convolution",
        "kernel": [3, 3],
        "stride": 1,
        "in_channels": 12,
        "out_channels": 9,
        "height": 6,
        "width": 7,
        "macs": 9 * 12 * 9 * 6 * 7,
        "parameters": 9 * 12 * 9 + 2 * 9,
    }
    kinds = {layer["kind"] for layer in described["layers"]}
    assert kinds == {"convolution", "projection", "classifier"}
    assert described["macs"] == sum(layer["macs"] for layer in described["layers"])


def test_published_networks(reference_dir, write):
    published = json.loads((reference_dir.parent / "architectures.json").read_text())["published"]
    for entry in published.values():
        fields = {key: entry[key] for key in FIELDS if key in entry}
        family = "imagenet_resnet" if entry["dataset"] == "imagenet" else "cifar_resnet"
        described = json.loads(
            show(write(fields | {"schema_version": 1, "family": family}), "--json").stdout
        )
        totals = [described["macs"], described["trainable_parameters"]]
        assert totals == [entry["macs"], entry["trainable_parameters"]]


@pytest.mark.parametrize("block", [[16, 16], [65_536, 1]])
def test_columns_stand_below_each_other(write, block):
    lines = show(write(FIELDS | {"stages": [[block] * 40] * 3})).stdout.decode().splitlines()
    table = lines[lines.index("") + 1 : -3]
    assert len({len(line) for line in table}) == 1
    assert len({line.index("->") for line in table[1:]}) == 1
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stem_width": 0}, "stem_width: expected a whole number from 1 to 65536. Received: 0"),
        ({"stem_width": -3}, "stem_width: expected a whole number from 1 to 65536. Received: -3"),
        ({"stages": [[[10**12, 1]]] * 3}, "stages[0][0][0]: expected"),
        ({"stages": [[[65_536, 65_536]]] * 3}, "parameters, reached at stage1_block1_conv2"),
        ({"stages": [[1, 2]] * 3}, "stages[0][0]: expected a list of 2. Received: 1"),
        ({"stages": [[[1, 1]] * 2_000] * 3}, "stages: more than 1000 blocks"),
        ({"family": "vgg"}, "family: expected one of cifar_resnet, imagenet_resnet. Received"),
        ({"colour": "red"}, "unknown field 'colour'"),
    ],
)
def test_refuses_values(write, change, said):
    assert said in refusal(write(FIELDS | change))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not valid JSON"),
        (json.dumps(FIELDS)[:60], "not valid JSON"),
        (b"\x7fELF\x02\x01\x01\x00\xd0\xff", "not valid JSON"),
        ("[" * 100_000, "nested more than"),
        ('{"stages": ' + "9" * 10_000 + "}", "not valid JSON"),
        ("[1, 2]", "expected a JSON object. Received: [1, 2]"),
        ('{"a\\u001b[31m\\n": 1}', "unknown field 'a\\x1b[31m\\n'"),
    ],
)
def test_refuses_content(write, content, said):
    assert said in refusal(write(content))


def test_refuses_what_is_no_file(tmp_path):
    assert "cannot be read: No such file or directory" in refusal(tmp_path / "missing.json")
    assert "cannot be read: Is a directory" in refusal(tmp_path)


def test_reads_only_the_beginning_of_an_enormous_file(tmp_path):
    path = tmp_path / "enormous.json"
    with path.open("wb") as file:
        file.truncate(2**40)
    start = time.monotonic()
    assert "longer than" in refusal(path)
    assert time.monotonic() - start < 5


def test_usage_is_exit_code_two():
    assert show().returncode == 2
    assert b"--json" in show("--help").stdout


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_reader_that_leaves_early(write, arguments):
    path = write(FIELDS | {"stages": [[[16, 16]] * 300] * 3})
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(TOOL), str(path), *arguments]
    shown = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=30)
    os.close(writer)
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_hostile_name_is_shown_as_text(write):
    path = write(FIELDS | {"name": "\x1b[2J\ud800é" + "x" * 10_000})
    shown = show(path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"\x1b" not in shown.stdout
    assert len(shown.stdout.splitlines()[0]) < 200


def test_loads_no_tensorflow(write):
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(TOOL), str(write(FIELDS))]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=30).returncode == 0
