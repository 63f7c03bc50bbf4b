"""What is exported of one network trained on digits: each artifact, its record, and refusals."""

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import documents
import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from command_line import QUICK, bindings, check_refused, run
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tas_tf.deployment import artifacts, litert, saved_model
from tas_tf.deployment.classifier import Trained
from tas_tf.deployment.formats import FORMATS
from tas_tf.errors import ArchitectureError
from tas_tf.models import network_files
from tas_tf.runtime import devices
from tas_tf.spaces.cost import cost

ALL = ",".join(FORMATS)
# Parts of the names of operations that train.
TRAINING = ("Grad", "Apply", "FusedBatchNorm", "RandomUniform")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small network trained on digits, exported in all formats."""
    folder = tmp_path_factory.mktemp("export")
    small = bindings("DEPTH = 8", "EPOCHS = 5")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("train", QUICK, "--run_dir=run", *small) == 0
        assert run("export", "--run_dir=run", f"--format={ALL}", "--qat_epochs=1") == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def beside(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)


@pytest.fixture(scope="module")
def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def images():
    """Real scans, uint8 (20, 8, 8, 1)."""
    feed = small_runs.digits().training(20, 5, augment=False, raw=True)
    return next(iter(feed.batches(0, 1)))[0].numpy()


@pytest.fixture(scope="module")
def expected(folder, images):
    """The Keras model's logits of them, by the recorded mean and deviation."""
    record = json.loads((folder / "data.json").read_text())
    model = keras.models.load_model(folder / "model.keras")
    return model((images / 255 - record["mean"]) / record["deviation"]).numpy()


@pytest.mark.parametrize("name", FORMATS)
def test_every_artifact_is_recorded_with_its_hashes(folder, manifest, name):
    entry = manifest["artifacts"][name]
    path = folder / FORMATS[name].file
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    assert len(files) == len(entry["files"])
    for file in files:
        key = file.name if path.is_file() else str(file.relative_to(path))
        assert entry["files"][key]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry["bytes"] == sum(file.stat().st_size for file in files)
    assert entry["check"]["images"] == Trained.calibration_images
    limit = FORMATS[name].tolerance
    assert 0 <= entry["check"]["largest_relative_difference"] <= limit
    assert entry["check"]["class_agreement"] > 0.95
    assert (entry["accuracy"] is not None) == FORMATS[name].quantized


def test_the_manifest_explains_the_network(folder, manifest):
    architecture = network_files.load_architecture(str(folder))
    result = json.loads((folder / "result.json").read_text())
    assert manifest["network"]["cost"] == dict(architecture.cost)
    assert manifest["keras_accuracy"] == result["test"]["accuracy"]
    assert manifest["data"]["splits"] == json.loads((folder / "data.json").read_text())["splits"]
    assert manifest["training"]["settings"]["epochs"] == 5
    for name in ("litert_int8", "litert_qat"):
        assert manifest["artifacts"][name]["accuracy"] > manifest["keras_accuracy"] - 0.1
        assert manifest["artifacts"][name]["settings"]["seed"] == 0
    assert manifest["artifacts"]["litert_qat"]["settings"]["qat_epochs"] == 1
    card = (folder / "model_card.md").read_text()
    macs = f"{manifest['network']['cost']['macs']:,} multiply-accumulates"
    for text in (macs, "8x8 pixels", *(f"`{each.file}`" for each in FORMATS.values()), "## Limits"):
        assert text in card


@pytest.mark.parametrize("count", [0, 1, 7])
def test_both_signatures_give_the_same(folder, images, expected, count):
    served = tf.saved_model.load(str(folder / "saved_model")).signatures
    files = [tf.io.encode_png(image).numpy() for image in images[:count]]
    of_images = served["serving_default"](images=tf.constant(images[:count]))
    of_files = served["encoded"](image_bytes=tf.constant(files, tf.string))
    assert set(of_images) == set(of_files) == {"logits", "probabilities", "classes"}
    for name, value in of_images.items():
        np.testing.assert_array_equal(value, of_files[name])
    np.testing.assert_allclose(of_images["logits"], expected[:count], atol=1e-4)
    np.testing.assert_array_equal(of_images["classes"], expected[:count].argmax(axis=1))


def test_image_files_are_brought_to_size_as_in_evaluation(folder):
    served = tf.saved_model.load(str(folder / "saved_model")).signatures
    picture = np.random.default_rng(0).integers(0, 256, (30, 21, 3)).astype(np.uint8)
    for encode in (tf.io.encode_png, tf.io.encode_jpeg):
        file = encode(picture)
        image = small_runs.digits().decoded(file)
        one = served["encoded"](image_bytes=file[None])["logits"]
        other = served["serving_default"](images=image[None])["logits"]
        np.testing.assert_array_equal(one, other)


def test_the_saved_model_has_stock_operations_and_no_training(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model/saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    nodes = [*graph.graph_def.node]
    for function in graph.graph_def.library.function:
        nodes += function.node_def
    operations = {node.op for node in nodes}
    assert {"Conv2D", "DecodeJpeg", "Softmax", "ArgMax"} <= operations
    functions = [node for f in graph.graph_def.library.function for node in f.node_def]
    assert not [node.op for node in functions if "Variable" in node.op or "Handle" in node.op]
    kernels = [node for node in nodes if node.op == "Conv2D"]
    layers = network_files.load_architecture(str(folder)).layers()
    assert len(kernels) == sum(layer.kind != "classifier" for layer, *_ in layers)
    assert not [op for op in operations if any(word in op for word in TRAINING)]
    code = (
        "import sys\nfrom tensorflow.python.framework import op_def_registry\n"
        "import tensorflow\n"
        "sys.exit([op for op in sys.argv[1:] if op_def_registry.get(op) is None] or 0)"
    )
    subprocess.run([sys.executable, "-c", code, *operations], check=True, capture_output=True)


@pytest.mark.parametrize("shape", small_runs.WRONG, ids=str)
def test_a_signature_refuses_images_of_another_shape(folder, shape):
    served = tf.saved_model.load(str(folder / "saved_model")).signatures
    received = str(list(shape)).replace(" ", "")
    expected = (
        rf"Shape of tensor images {re.escape(received)} is not .* expected shape \[\?,8,8,1\]"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        served["serving_default"](images=tf.zeros(shape, tf.uint8))


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 3), (0, 1)], ids=str)
def test_a_signature_refuses_files_that_are_no_list(folder, shape):
    served = tf.saved_model.load(str(folder / "saved_model")).signatures
    file = tf.io.encode_png(tf.zeros((8, 8, 1), tf.uint8))
    received = str(list(shape)).replace(" ", "")
    expected = rf"Shape of tensor image_bytes {re.escape(received)} is not .* expected shape \[\?\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        served["encoded"](image_bytes=tf.fill(shape, file))


@pytest.mark.parametrize("name", ["litert", "litert_int8", "litert_qat"])
@pytest.mark.parametrize("shape", [shape for shape in small_runs.WRONG if 0 not in shape], ids=str)
def test_litert_refuses_images_of_another_shape(folder, name, shape):
    model = litert.Interpreter(str(folder / FORMATS[name].file))
    with pytest.raises((RuntimeError, ValueError)):
        model.get_signature_runner("serving_default")(images=np.zeros(shape, np.uint8))


@pytest.mark.slow  # two processes that start TensorFlow
def test_saved_model_cli_as_documented():
    said = ""
    for command in documents.commands("docs/deployment.md"):
        if command.startswith(("saved_model_cli", "python -c")):
            own = command.replace("runs/deploy20", "run").replace("32, 32, 3", "8, 8, 1")
            said += documents.in_shell(own)
    assert "signature_def['encoded']" in said  # of show
    assert all(f"Result for output key {name}:" in said for name in ("classes", "logits"))  # of run


def test_label_names_are_an_asset(folder):
    labels = (folder / "saved_model/assets/labels.txt").read_text()
    assert labels.splitlines() == [str(digit) for digit in range(10)]


def test_warm_up_requests_are_prediction_logs(folder):
    path = folder / "saved_model/assets.extra/tf_serving_warmup_requests"
    served = tf.saved_model.load(str(folder / "saved_model")).signatures
    sizes = []
    for record in tf.data.TFRecordDataset(str(path)):
        request = parsed(parsed(parsed(record.numpy())[6][0])[1][0])
        signature = parsed(request[1][0])[3][0].decode()
        entry = parsed(request[2][0])
        tensor = tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry[2][0]))
        outputs = served[signature](**{entry[1][0].decode(): tf.constant(tensor)})
        sizes.append((signature, len(outputs["classes"])))
    assert sizes == [(name, size) for size in (1, 32) for name in saved_model.INPUTS]


def parsed(message: bytes) -> dict[int, list[bytes]]:
    """The fields of a protocol buffer, all of which have a length."""
    fields, place = {}, 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        assert key & 7 == 2
        size = varint()
        fields.setdefault(key >> 3, []).append(message[place : place + size])
        place += size
    return fields


# Int8 rounds every map, and training for it moves the weights too.
@pytest.mark.parametrize(
    ("name", "tolerance"), [("litert", 1e-4), ("litert_int8", 0.1), ("litert_qat", 0.1)]
)
def test_litert_takes_uint8_images_in_any_number(folder, images, expected, name, tolerance):
    path = str(folder / FORMATS[name].file)
    scale = np.abs(expected).max()
    for count in (1, 7):
        received = litert.read(None, path, threads=1)(images[:count])
        assert received.dtype == np.float32
        np.testing.assert_allclose(received, expected[:count], atol=scale * tolerance)


@pytest.mark.parametrize("name", ["litert_int8", "litert_qat"])
def test_int8_computes_in_int8_from_pixels_to_logits(folder, name):
    model = litert.Interpreter(str(folder / FORMATS[name].file))
    (given,), (out,) = model.get_input_details(), model.get_output_details()
    assert (given["dtype"], given["quantization"]) == (np.uint8, (1.0, 0))
    assert out["dtype"] == np.int8 and out["quantization"] != (0.0, 0)
    assert all(d["dtype"] != np.float32 for d in model.get_tensor_details())


def test_int8_is_smaller(manifest):
    size = {name: entry["bytes"] for name, entry in manifest["artifacts"].items()}
    assert size["litert_int8"] < 0.4 * size["litert"]
    assert size["litert_qat"] < 0.4 * size["litert"]


def test_the_unpruned_network_is_not_timed_beside_itself(manifest):
    assert {entry["speed"] for entry in manifest["artifacts"].values()} == {None}


EVERY = "saved_model,litert,litert_int8,onnx,openvino"


@pytest.mark.parametrize(
    "timed", ["saved_model,litert", pytest.param(EVERY, marks=pytest.mark.slow)]
)
def test_a_derived_network_is_timed_beside_the_unpruned_one(timed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    whole = small_runs.space().unpruned()
    stages = tuple(tuple(tuple(w // 2 for w in block) for block in s) for s in whole.stages)
    small = whole.replace(stem_width=8, stages=stages, cost=None)
    pathlib.Path("small.json").write_text(small.to_json())
    arguments = ["--run_dir=run", "--architecture=small.json", *bindings("EPOCHS = 1")]
    assert run("train", QUICK, *arguments) == 0
    capsys.readouterr()
    assert run("export", "--run_dir=run", f"--format={timed},keras") == 0
    printed = capsys.readouterr().out
    assert printed.count("times as fast") == 2 * len(timed.split(","))
    artifacts = json.loads(pathlib.Path("run/manifest.json").read_text())["artifacts"]
    assert artifacts.pop("keras")["speed"] is None
    card = pathlib.Path("run/model_card.md").read_text()
    for name, entry in artifacts.items():
        speed = entry["speed"]
        assert speed["share_of_macs"] == cost(small) / cost(whole)
        assert speed["threads"] == (1 if "litert" in name else devices.threads())
        assert [call["batch_size"] for call in speed["calls"]] == [1, 32]
        for call in speed["calls"]:
            network, unpruned = call["times"]["network"], call["times"]["unpruned"]
            assert call["share_of_time"] == network["median_ms"] / unpruned["median_ms"]
            assert min(network["rounds"], unpruned["rounds"]) >= 20
            said = f"{1 / call['share_of_time']:.2f} times as fast"
            assert said in printed
        assert f"{1 / speed['calls'][0]['share_of_time']:.2f}, " in card


def test_another_format_is_added_and_what_stands_is_kept(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--run_dir=export", f"--model={folder}"]
    assert run("export", *arguments) == 0
    assert run("export", *arguments, "--format=litert", "--format=keras") == 0
    listed = json.loads(pathlib.Path("export/manifest.json").read_text())["artifacts"]
    assert set(listed) == {"saved_model", "litert", "keras"}
    capsys.readouterr()
    pathlib.Path("export/model.tflite").write_bytes(b"damaged")
    assert run("export", *arguments, "--format=litert,saved_model") == 0
    printed = capsys.readouterr().out
    assert "Already done: export/saved_model" in printed
    assert "Already done: export/model.tflite" not in printed
    assert pathlib.Path("export/model.tflite").stat().st_size == listed["litert"]["bytes"]


def test_dry_run_says_what_would_be_made(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--run_dir=new", f"--model={folder}", f"--format={ALL}", "--dry_run"]
    assert run("export", *arguments) == 0
    printed = capsys.readouterr().out
    for name, kind in FORMATS.items():
        assert f"as {name} to new/{kind.file}\n" in printed
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(folder, capsys, monkeypatch):
    known = "--format: expected one or several of saved_model, .*'litert8'; did you mean litert"
    check_refused(capsys, "export", "--run_dir=run", "--format=litert8", expected=[known])
    check_refused(
        capsys, "export", "--run_dir=run", "--qat_epochs=0",
        expected=["qat_epochs.*expected at least 1. Received: 0"],
    )  # fmt: skip
    check_refused(
        capsys, "export", "--run_dir=run", *bindings("ImageData.image_size = 9"),
        expected=[r"expected a network of input \(9, 9, 1\)"],
    )  # fmt: skip
    check_refused(
        capsys, "export", "--run_dir=run", "--align=0",
        expected=["--align: expected a whole number from 1 to 64.*Received: '0'"],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "openvino", None)
    check_refused(
        capsys, "export", "--run_dir=run", "--format=openvino",
        expected=[r"openvino needs openvino, not installed .*'tas_tf\[openvino\]'"],
    )  # fmt: skip


def test_weights_of_another_architecture_are_refused(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    other = small_runs.space().unpruned().replace(stem_width=3)
    pathlib.Path("run/architecture.json").write_text(other.to_json())
    check_refused(capsys, "export", "--run_dir=run", expected=["model.keras cannot be read"])


def test_artifacts_of_another_network_are_not_mixed(folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    text = pathlib.Path("run/manifest.json").read_text()
    weights = json.loads(text)["network"]["weights_sha256"]
    pathlib.Path("run/manifest.json").write_text(text.replace(weights, "0" * 64))
    check_refused(
        capsys,
        "export",
        "--run_dir=run",
        expected=["artifacts of another network.*; give another --run_dir$"],
    )


@pytest.mark.parametrize("name", ["saved_model", "litert", "onnx", "openvino", "keras"])
def test_an_artifact_that_differs_is_not_left(folder, tmp_path, monkeypatch, name):
    classifier = small_runs.classifier(network_files.load_model(str(folder)))
    data = small_runs.digits()
    # A format of float needs no architecture.
    export = artifacts.Export(
        classifier=classifier, architecture=None, data=data, seed=0, qat_epochs=0
    )
    path = tmp_path / FORMATS[name].file
    monkeypatch.setitem(FORMATS, name, dataclasses.replace(FORMATS[name], tolerance=-1.0))
    with pytest.raises(ArchitectureError, match=f"{name}: the logits differ .* not written"):
        export.make(name, str(path), export.images())
    assert not list(tmp_path.iterdir())
