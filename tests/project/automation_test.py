"""The hooks before a commit and the hosted CI run the project's own scripts, and nothing else."""

import os
import re
import shlex

import yaml
from checkout import ROOT, options

HOOKS = ROOT / ".pre-commit-config.yaml"
WORKFLOW = ROOT / ".github/workflows/test.yml"


def is_script(command: str) -> bool:
    path = ROOT / shlex.split(command)[0]
    return path.is_file() and os.access(path, os.X_OK) and path.is_relative_to(ROOT)


def supported() -> list[str]:
    """The Python versions that setup.cfg names."""
    return re.findall(r":: (3\.\d+)$", options("metadata")["classifiers"], re.MULTILINE)


def test_hooks_are_scripts_of_the_project():
    repositories = yaml.safe_load(HOOKS.read_text())["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {hook["id"] for hook in hooks} == {"check", "site"}
    for hook in hooks:
        # Of another language pre-commit would build an environment from a package index.
        assert hook["language"] == "system" and is_script(hook["entry"])


def test_hosted_ci_runs_the_script_of_ci_on_every_python():
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == supported()
    (runs,) = [step for step in job["steps"] if "run" in step]
    assert runs["run"] == ".ci/run" and is_script(runs["run"])
    # The interpreter that the job sets up is the one that .venv is made with.
    (python,) = [step["with"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert python["python-version"] == "${{ matrix.python }}"
    assert runs["env"] == {"PYTHON": "python"}


def test_scripts_and_installation_take_the_pythons_that_setup_cfg_names():
    script = (ROOT / "tools/venv.sh").read_text()
    taken = re.search(r"^    (3[\d. |]+)\) return 0", script, re.MULTILINE)[1]
    assert taken.split(" | ") == supported()
    assert options("options")["python_requires"].startswith(f">={supported()[0]},<3.")
