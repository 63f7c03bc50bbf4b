"""The repositories of WORKSPACE that are made here: the Python of .venv, and stand-ins."""

_MAKE_ENVIRONMENT = """
import pathlib, sys, sysconfig, venv

packages = sysconfig.get_path("purelib")
venv.create("python", symlinks=True)
place = pathlib.Path("python", pathlib.Path(packages).relative_to(sys.prefix))
place.joinpath("packages.pth").write_text(packages)
"""

_BUILD = """
load("@rules_python//python:defs.bzl", "py_runtime", "py_runtime_pair")

exports_files(["installed.stamp"])

py_runtime(
    name = "runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
)

py_runtime_pair(
    name = "runtimes",
    py3_runtime = ":runtime",
)

toolchain(
    name = "toolchain",
    toolchain = ":runtimes",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _venv_impl(ctx):
    venv = ctx.path(Label("//:WORKSPACE")).dirname.get_child(".venv")
    if not venv.get_child("installed.stamp").exists:
        fail("%s is missing or half made: run tools/bazel or tools/test, which make it" % venv)

    # Read by its label, so that Bazel sees when something else is installed.
    ctx.file("installed.stamp", ctx.read(Label("//:.venv/installed.stamp")))
    python = venv.get_child("bin").get_child("python")
    made = ctx.execute([python, "-c", _MAKE_ENVIRONMENT])
    if made.return_code:
        fail("%s made no environment:\n%s" % (python, made.stderr))
    ctx.file("BUILD", _BUILD.format(python = ctx.path("python/bin/python")))

# A Python toolchain with the packages of .venv and without the checkout, which is installed there
# too: an environment that has the packages' folder on its path but does not carry out its .pth files.
venv = repository_rule(
    implementation = _venv_impl,
    local = True,
)

def _forwarded(*rules):
    return "\n".join(["%s = native.%s" % (rule, rule) for rule in rules])

# What Bazels before 7 would fetch, as far as they need it here: rules of their own by other names.
_STAND_INS = {
    "remote_coverage_tools": {
        "BUILD": """
filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])
filegroup(name = "lcov_merger", visibility = ["//visibility:public"])
""",
    },
    "rules_cc": {
        "cc/BUILD": "",
        "cc/defs.bzl": _forwarded(
            "cc_binary",
            "cc_library",
            "cc_test",
            "cc_toolchain",
            "cc_toolchain_suite",
        ),
    },
    "rules_java": {
        "java/BUILD": "",
        "java/defs.bzl": _forwarded(
            "java_binary",
            "java_import",
            "java_library",
            "java_runtime",
            "java_toolchain",
        ),
    },
    "rules_proto": {
        "proto/BUILD": "",
        "proto/defs.bzl": _forwarded("proto_lang_toolchain", "proto_library"),
    },
    "rules_python": {
        "python/BUILD": "",
        "python/defs.bzl": """
load("@bazel_tools//tools/python:toolchain.bzl", _pair = "py_runtime_pair")

py_runtime_pair = _pair
""" + _forwarded("py_binary", "py_library", "py_runtime", "py_test"),
        "python/repositories.bzl": "def py_repositories():\n    pass\n",
    },
}

def _written_impl(ctx):
    for path, text in ctx.attr.files.items():
        ctx.file(path, text)

_written = repository_rule(
    implementation = _written_impl,
    attrs = {"files": attr.string_dict()},
)

def stand_ins():
    """Defines the stand-ins where Bazel is of a version before 7, which works without a network.

    Debian's Bazel is 4.2.3 and tells no version.
    """
    version = native.bazel_version
    if not version or int(version.split(".")[0]) < 7:
        for name, files in _STAND_INS.items():
            _written(name = name, files = files)
