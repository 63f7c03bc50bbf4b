"""Exports a trained network for servers and devices, its preprocessing inside, and checks it.

python -m tas_tf.export --run_dir=runs/student20
python -m tas_tf.export --run_dir=runs/student20 --format=saved_model,litert,litert_int8
python -m tas_tf.export --model=runs/student20 --run_dir=runs/export20
"""

import os

from absl import flags

from tas_tf import command_line
from tas_tf.config import presets, recorded
from tas_tf.deployment import formats
from tas_tf.errors import RunDirectoryError

_MODEL = flags.DEFINE_string(
    "model", None, "Run directory of the trained network, where it is another than --run_dir."
)
_FORMATS = flags.DEFINE_multi_string(
    "format",
    [],
    f"What to make, by default saved_model: {formats.told(formats.FORMATS)}. Several: repeated, or "
    "with commas.",
)
_QAT_EPOCHS = flags.DEFINE_integer("qat_epochs", None, "Epochs of training for litert_qat.")

_ALIGN = flags.DEFINE_string(
    "align",
    None,
    "Pad widths with zeros to multiples of this number, such as 8 or 16, in all formats but "
    "litert_qat and keras; auto measures and takes what is fastest. The function stays the same.",
)


def _export() -> int:
    trained = _MODEL.value or flags.FLAGS.run_dir
    spec = os.path.join(os.path.expanduser(trained), "config.gin") if trained else None
    if spec and not flags.FLAGS.gin_file and not presets.is_file(spec):
        raise RunDirectoryError(f"{trained} is no run directory of a training: {spec} is missing")
    if spec and not flags.FLAGS.gin_file:
        recorded.check_recorded(spec)
    # What a training records does not say what an export does.
    bindings = ["run_export.data = @ImageData()"]
    bindings += command_line.path_binding("run_export.model", _MODEL.value)
    if _FORMATS.value:
        formats.parse_formats(_FORMATS.value)  # before TensorFlow starts
        bindings.append(f"run_export.formats = {_FORMATS.value!r}")
    if _QAT_EPOCHS.value is not None:
        bindings.append(f"run_export.qat_epochs = {_QAT_EPOCHS.value}")
    if _ALIGN.value is not None:
        bindings.append(f"run_export.align = {_ALIGN.value!r}")
    return command_line.run_experiment("run_export", bindings=bindings, default_spec=spec)


def run() -> None:
    """Runs the command."""
    command_line.define_flags("Directory of the trained network, or with --model a new directory.")
    command_line.run(_export)


if __name__ == "__main__":
    run()
