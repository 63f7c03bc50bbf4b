"""Commands and code as the documents give them."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import tensorflow as tf
from command_line import PROJECT
from sklearn.datasets import load_digits


def blocks(page: str, language: str) -> list[str]:
    text = (PROJECT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [re.sub(r"\s{2,}#.*|\s+$", "", line) for line in lines if line.strip()]


def save_images(
    folder: pathlib.Path, classes: int, images: int, size: int, parts=("train", "test")
):
    """Writes real scans of digits as a folder of images of several classes, in colour."""
    scans = (load_digits().images * 255 / 16).astype(np.uint8)
    for part in parts:
        for name in range(classes):
            own = folder / part / f"class{name:02}"
            own.mkdir(parents=True)
            for number in range(images):
                scan = scans[(name * images + number) % len(scans), ..., None]
                grown = scan.repeat(size // 8, 0).repeat(size // 8, 1).repeat(3, 2)
                (own / f"{number}.png").write_bytes(tf.io.encode_png(grown).numpy())


def in_shell(command: str) -> str:
    """Runs a tool as it stands on the page, in the working directory; returns what it prints."""
    python = pathlib.Path(sys.executable).parent
    path = f"{python}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        ["bash", "-c", command], check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout
