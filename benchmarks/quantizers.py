"""Compares what quantizes a trained network for LiteRT: the converter, litert-quantizer, training.

    pip install litert-quantizer==0.11.0
    python benchmarks/quantizers.py --run_dir=runs/resnet20/teacher --data_dir=~/tensorflow_datasets

One line for each file: its accuracy on the test split, on how many of the test images it agrees
with the Keras model, its size, and milliseconds of processor time of a call with one image and one
thread. All are timed in turn. Those that need ranges get them from the same training images.
An artifact of `--format=litert_qat` is compared too if the run directory has one.
"""

import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import measuring
import numpy as np
from litert_quantizer import quantizer, recipe

from tas_tf.config import gin_config
from tas_tf.deployment import artifacts, litert, runners
from tas_tf.deployment.classifier import INPUT
from tas_tf.deployment.formats import FORMATS
from tas_tf.experiments import registry  # noqa: F401, what gin can bind
from tas_tf.runtime.run_directory import RunDirectory

RECIPES = {
    "quantizer, int8": recipe.static_wi8_ai8,
    "quantizer, int16x8": recipe.static_wi8_ai16,
    "quantizer, weights int8, dynamic": recipe.dynamic_wi8_afp32,
    "quantizer, weights int8": recipe.weight_only_wi8_afp32,
    "quantizer, weights int4, dynamic": recipe.dynamic_wi4_afp32,
    "quantizer, weights int4": recipe.weight_only_wi4_afp32,
}


def load(run_dir: str, data_dir: str | None) -> artifacts.Export:
    """Returns a trained network and its images, by the configuration of its run."""
    source = RunDirectory(str(pathlib.Path(run_dir).expanduser()))
    bindings = [f"ImageData.data_dir = {data_dir!r}"] if data_dir else []
    gin_config.load([source.file("config.gin")], bindings)
    data = gin_config.call("ImageData")
    export = artifacts.load_export(source, data, qat_epochs=1)
    data.prepare(export.seed)
    return export


def write_all(export: artifacts.Export, run_dir: str, folder: str) -> dict[str, str]:
    """Writes a file by every quantizer; returns their paths by what wrote them."""
    images = export.images()
    paths = {"float32": f"{folder}/float.tflite", "converter, int8": f"{folder}/int8.tflite"}
    for path, name in zip(paths.values(), ("litert", "litert_int8"), strict=True):
        FORMATS[name].load().write(export, path, images)
    trained = pathlib.Path(run_dir).expanduser() / FORMATS["litert_qat"].file
    if trained.exists():
        paths["training, int8"] = str(trained)
    for number, (name, make) in enumerate(RECIPES.items()):
        tool = quantizer.Quantizer(paths["float32"], make())
        ranges = None
        if tool.need_calibration:
            # All at once: of several calls it would take moving averages, which cut ranges off.
            ranges = tool.calibrate({"serving_default": [{INPUT: images}]}, num_threads=1)
        path = f"{folder}/{number}.tflite"
        try:
            tool.quantize(ranges, enable_progress_report=False).export_model(path)
        except (RuntimeError, ValueError) as error:
            print(f"{name}: {error}")
            continue
        paths[name] = path
    return paths


def test_split(export: artifacts.Export) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns batches of test images with their labels and the Keras model's classes."""
    return [
        (images.numpy(), labels.numpy(), export.classifier.logits(images).numpy().argmax(axis=1))
        for images, labels in export.data.evaluation("test", 250, raw=True)
    ]


def answers(export: artifacts.Export, path: str, batches: list) -> tuple[float, float]:
    """Returns a file's accuracy on the test split, and its agreement with the Keras model."""
    logits = litert.read(export, path, 1)
    said = np.concatenate([logits(images).argmax(axis=1) for images, _, _ in batches])
    labels, expected = (np.concatenate([batch[i] for batch in batches]) for i in (1, 2))
    return float(np.mean(said == labels)), float(np.mean(said == expected))


def times_of(export: artifacts.Export, paths: dict[str, str], seconds: float) -> dict:
    """Returns the times of calls, each behind one that is not counted: it warms the caches."""
    image = export.images()[:1]
    calls = {}
    for name, path in paths.items():
        with open(path, "rb") as file:
            runner = litert.LiteRTRunner(file.read(), 1)
        runner.load(image)
        calls |= {(name, "warm"): runner.run, name: runner.run}
    return runners.time_calls(calls, seconds, runners.clock_of("litert", 1))


def rows_of(export: artifacts.Export, paths: dict[str, str], seconds: float) -> list[dict]:
    """Returns the table's lines of one network."""
    times = times_of(export, paths, seconds)
    rows, batches = [], test_split(export)
    for name, path in paths.items():
        accuracy, agreement = answers(export, path, batches)
        row = {"file": name, "accuracy": f"{accuracy:.2%}", "agrees": f"{agreement:.2%}"}
        row |= {"bytes": os.path.getsize(path), "ms": times[name].median_ms}
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--run_dir", required=True, help="run directory of a trained network")
    parser.add_argument("--data_dir", help="where prepared data sets lie")
    parser.add_argument("--seconds", type=float, default=20.0)
    flags = parser.parse_args()
    export = load(flags.run_dir, flags.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_all(export, flags.run_dir, folder)
        measuring.report(rows_of(export, paths, flags.seconds), flags.json)


if __name__ == "__main__":
    main()
