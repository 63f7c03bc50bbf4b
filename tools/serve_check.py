"""Serves an exported network by KServe on loopback, and asks it as strangers would.

    tools/serve_check --requests 10000 --clients 4

By default a small network is trained on scikit-learn's digits and exported first. A client of the
protocol alone must get the Keras model's answers, bad requests a status 4xx, and no request of many
may be lost. tensorflow-serving-api and OpenVINO read the same SavedModel. Exits with 1 if anything
differs; nothing is left running or lying about.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import serving_client
import serving_protocol as protocol
import tensorflow as tf

from tas_tf.data.image_data import ImageData
from tas_tf.deployment.classifier import Classifier
from tas_tf.errors import UserError
from tas_tf.models import network_files
from tas_tf.runtime.run_directory import RunDirectory

HERE = pathlib.Path(__file__).parent
NAME = "network"
TOLERANCE = 1e-4  # of a logit, relative to the largest
PATIENCE = 300  # seconds that a command, and the server's start, may take
TRAINING = ("DEPTH = 8", "EPOCHS = 3")


class Failed(Exception):
    """Something that is not as it should be."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """Real images and what the Keras model says of them.

    Args:
        images: (batch, height, width, channels) uint8.
        files: The same as PNG files.
        logits: (batch, classes) float32.
    """

    images: np.ndarray
    files: list[bytes]
    logits: np.ndarray

    def difference(self, rows: list[dict], place: int = 0) -> float:
        """Returns how far the logits of an answer are off, relative to the largest.

        Args:
            rows: The answer, one row for each image.
            place: Which image the first row belongs to.

        Raises:
            Failed: If there are other rows, or other classes.
        """
        wanted = self.logits[place : place + len(rows)]
        logits = np.array([row["logits"] for row in rows])
        classes = [row["classes"] for row in rows]
        if logits.shape != wanted.shape or classes != wanted.argmax(axis=-1).tolist():
            raise Failed(f"classes {classes}: the Keras model has {wanted.argmax(axis=-1)}")
        return float(np.abs(logits - wanted).max() / np.abs(self.logits).max())


def trained(folder: str) -> str:
    """Trains a small network on digits and exports it; returns its run directory."""
    run_dir = os.path.join(folder, "run")
    bindings = [f"--gin_bindings={binding}" for binding in TRAINING]
    for command in (["train", "--gin_file=specs/quickstart.gin", *bindings], ["export"]):
        print(f"python -m tas_tf.{' '.join(command)} --run_dir=RUN", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"tas_tf.{command[0]}", *command[1:], f"--run_dir={run_dir}"],
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise Failed(f"tas_tf.{command[0]}: {done.stderr.strip() or done.stdout[-2000:]}")
    return run_dir


def expected(run_dir: str, data_dir: str | None, count: int) -> Expected:
    """Returns real images of the test split, and the Keras model's logits."""
    record = RunDirectory(run_dir).read_json("data.json", ("dataset", "seed", "mean", "deviation"))
    model = network_files.load_model(run_dir)
    data = ImageData(record["dataset"], data_dir)
    data.prepare(record["seed"])
    images, _ = next(iter(data.evaluation("test", count, raw=True)))
    served = Classifier(model, record["mean"], record["deviation"], (), data.decoded)
    files = [tf.io.encode_png(image).numpy() for image in images]
    return Expected(images.numpy(), files, served.logits(images).numpy())


@contextlib.contextmanager
def serving(python: str, saved_model: str, folder: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """Starts the server, yields its process and port, and ends it."""
    log = os.path.join(folder, "server.log")
    command = [python, str(HERE / "kserve_model.py"), "--name", NAME, "--saved_model", saved_model]
    with open(log, "w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if ready.select(PATIENCE) else ""
        if not line.strip().isdigit():
            raise Failed(f"the server did not start: {pathlib.Path(log).read_text()[-2000:]}")
        yield process, int(line)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def check_answers(client: serving_client.Client, wanted: Expected) -> None:
    """Asks for all images, as pixels and as files, and compares with the Keras model."""
    status, answer = client.status()
    if (status, answer.get("ready")) != (200, True):
        raise Failed(f"the model's status is {status}, {answer}")
    asked = {
        "serving_default": wanted.images.tolist(),
        "encoded": [serving_client.encoded(file) for file in wanted.files],
    }
    for signature, instances in asked.items():
        status, answer = client.predict(instances, signature)
        if status != 200:
            raise Failed(f"{signature}: status {status}, {answer}")
        difference = wanted.difference(answer["predictions"])
        if difference > TOLERANCE:
            raise Failed(f"{signature}: logits differ by {difference:.1e} of the largest")
        print(
            f"{signature}: {len(instances)} images, logits within {difference:.1e} of the largest, "
            "all classes agree"
        )


def png(width: int, height: int) -> bytes:
    """Returns a small PNG file of many pixels: a head, and one chunk that is far too short."""
    chunks = b"\x89PNG\r\n\x1a\n"
    head = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x00\x00\x00\x00"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")):
        checked = kind + content
        chunks += len(content).to_bytes(4) + checked + zlib.crc32(checked).to_bytes(4)
    return chunks


def bad_requests(wanted: Expected) -> dict[str, bytes]:
    """Returns bodies of requests that deserve a status 4xx, by what is wrong with them."""
    image, file = wanted.images[0].tolist(), wanted.files[0]

    def body(instances, signature="serving_default") -> bytes:
        return json.dumps({"signature_name": signature, "instances": instances}).encode()

    def of_file(content: bytes) -> bytes:
        return body([serving_client.encoded(content)], "encoded")

    return {
        "wrong shape": body([image[:-1]]),
        "ragged": body([[image[0][:-1], *image[1:]]]),
        "no numbers": body([[[["a"]]]]),
        "beyond 255": body((wanted.images[:1].astype(int) + 256).tolist()),
        "empty batch": body([]),
        "too large a batch": body([image] * (protocol.MAX_BATCH + 1)),
        "malformed JSON": body([image])[:-5],
        "not JSON": b"\xff\xfe",
        "no instances": b"{}",
        "a list": b"[]",
        "unknown signature": body([image], "nowhere"),
        "not an image": of_file(b"nothing of the kind"),
        "cut-off image": of_file(file[: len(file) // 2]),
        "not base64": body([{"b64": "?"}], "encoded"),
        "huge image": of_file(png(100_000, 100_000)),
        "huge body": b" " * (protocol.MAX_BODY + 1),
    }


def check_bad_requests(client: serving_client.Client, wanted: Expected) -> None:
    """Sends what is wrong; every answer must say so plainly, and the server live on."""
    good = json.dumps({"instances": wanted.images[:1].tolist()}).encode()
    for name, body in bad_requests(wanted).items():
        status, answer = client.post(body)
        message = str(answer.get("error", ""))
        if not 400 <= status < 500 or not message or "Traceback" in message:
            raise Failed(f"{name}: status {status}, {answer}")
        print(f"  {name}: {status} {message[:110]}")
        status, answer = client.post(good)
        if status != 200:
            raise Failed(f"after {name} a good request has status {status}, {answer}")


def check_many(port: int, wanted: Expected, requests: int, clients: int) -> None:
    """Sends many requests, and prints how long they took; none may be lost or wrong."""
    bodies = [json.dumps({"instances": [image.tolist()]}).encode() for image in wanted.images]

    def right(place: int, answer) -> bool:
        try:
            return wanted.difference(answer["predictions"], place) <= TOLERANCE
        except (Failed, KeyError, TypeError):
            return False

    seconds, failures, taken = serving_client.many(port, NAME, bodies, right, requests, clients)
    print(f"{requests} requests from {clients} clients: {len(failures)} failed")
    if failures or len(seconds) != requests:
        raise Failed(f"{requests - len(seconds)} requests lost or wrong: {failures[:3]}")
    p50, p90, p99 = np.percentile(1e3 * np.array(seconds), (50, 90, 99))
    print(
        f"  p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms; "
        f"{requests / taken:.0f} requests a second"
    )


def check_readers(python: str, saved_model: str, wanted: Expected, folder: str) -> None:
    """Has tensorflow-serving-api and OpenVINO read the SavedModel, and prints what they say."""
    files = {name: os.path.join(folder, f"{name}.npy") for name in ("images", "logits")}
    for name, file in files.items():
        np.save(file, getattr(wanted, name))
    done = subprocess.run(
        [python, str(HERE / "serving_readers.py"), "--saved_model", saved_model]
        + [f"--{name}={file}" for name, file in files.items()],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    print(done.stdout, end="")
    if done.returncode:
        raise Failed(f"another reader disagrees: {done.stderr[-2000:]}")


def check(flags: argparse.Namespace) -> None:
    """Runs all checks.

    Raises:
        Failed: If one of them fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = os.path.expanduser(flags.run_dir) if flags.run_dir else trained(folder)
        saved_model = os.path.join(run_dir, "saved_model")
        if not os.path.isdir(saved_model):
            raise Failed(f"{saved_model} is missing: python -m tas_tf.export --run_dir={run_dir}")
        wanted = expected(run_dir, flags.data_dir, 64)
        with serving(flags.server_python, saved_model, folder) as (process, port):
            print(f"KServe serves the SavedModel on 127.0.0.1:{port}")
            with contextlib.closing(serving_client.Client(port, NAME)) as client:
                check_answers(client, wanted)
                check_bad_requests(client, wanted)
            check_many(port, wanted, flags.requests, flags.clients)
            if process.poll() is not None:
                raise Failed("the server has ended before it was told to")
        # Told to stop, uvicorn ends what it is doing, and then itself by the same signal.
        if process.returncode != -signal.SIGTERM:
            raise Failed(f"the server did not stop in order: exit code {process.returncode}")
        print("KServe has stopped")
        check_readers(flags.server_python, saved_model, wanted, folder)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--server_python", required=True, help="Python that has KServe")
    arguments.add_argument("--run_dir", help="run directory of an exported network")
    arguments.add_argument("--data_dir", help="where TFDS has its prepared data")
    arguments.add_argument("--requests", type=int, default=10_000)
    arguments.add_argument("--clients", type=int, default=4)
    flags = arguments.parse_args()
    if min(flags.requests, flags.clients) < 1:
        arguments.error("--requests and --clients are at least 1")
    # Told to stop, it ends the server and removes what it made, as it does at its own end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        check(flags)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except (Failed, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("All as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
