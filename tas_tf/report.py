"""Writes the report of a run, one HTML page and its Markdown twin; of several runs a comparison.

python -m tas_tf.report --run_dir=runs/resnet20
python -m tas_tf.report --run_dir=runs/resnet20 --run_dir=runs/resnet32 --output=runs
"""

from absl import flags

from tas_tf import command_line
from tas_tf.errors import EXIT_DONE, SpecError


def _report() -> int:
    run_dirs, output = flags.FLAGS.run_dir, flags.FLAGS.output
    if not run_dirs:
        raise SpecError("--run_dir: the directory of a run is needed, such as runs/resnet20")
    with command_line.without_startup_noise():
        from tas_tf.reports import report
    if len(run_dirs) == 1:
        paths = report.write_report(run_dirs[0], output)
    else:
        paths = report.write_comparison(run_dirs, output)
    print(f"Report: {' and '.join(paths)}")
    return EXIT_DONE


def run() -> None:
    """Runs the command."""
    flags.DEFINE_multi_string("run_dir", [], "Directory of a run; several are compared.")
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the pages; by default the run directory, for several runs the folder that "
        "holds the first.",
    )
    command_line.run(_report)


if __name__ == "__main__":
    run()
