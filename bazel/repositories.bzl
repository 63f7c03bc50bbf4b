"""Repositories beside the checkout: the Python of .venv, and stand-ins for what old Bazels fetch."""

def _written_impl(ctx):
    for path, text in ctx.attr.files.items():
        ctx.file(path, text)

_written = repository_rule(implementation = _written_impl, attrs = {"files": attr.string_dict()})

def _forwards(*rules):
    return "\n".join(["%s = native.%s" % (rule, rule) for rule in rules])

_STAND_INS = {
    "rules_cc": {
        "cc/BUILD": "",
        "cc/defs.bzl": _forwards("cc_binary", "cc_library", "cc_test", "cc_toolchain", "cc_toolchain_suite"),
    },
    "rules_java": {"java/BUILD": "", "java/defs.bzl": _forwards("java_binary", "java_import", "java_library", "java_runtime", "java_toolchain")},
    "rules_proto": {"proto/BUILD": "", "proto/defs.bzl": _forwards("proto_lang_toolchain", "proto_library")},
    "remote_coverage_tools": {"BUILD": """
filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])
filegroup(name = "lcov_merger", visibility = ["//visibility:public"])
"""},
    "rules_python": {
        "python/BUILD": "",
        "python/defs.bzl": """
load("@bazel_tools//tools/python:toolchain.bzl", _py_runtime_pair = "py_runtime_pair")
py_runtime_pair = _py_runtime_pair
""" + _forwards("py_binary", "py_library", "py_runtime", "py_test"),
        "python/repositories.bzl": "def py_repositories():\n    pass\n",
    },
}

def stand_ins():
    """Defines them, where this Bazel is one that can be had without a network: before 7.

    Debian's Bazel, which is 4.2.3, tells no version.
    """
    version = native.bazel_version
    if not version or int(version.split(".")[0]) < 7:
        for name, files in _STAND_INS.items():
            _written(name = name, files = files)

_MAKE = """
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
    ctx.file("installed.stamp", ctx.read(Label("//:.venv/installed.stamp")))
    made = ctx.execute([venv.get_child("bin").get_child("python"), "-c", _MAKE])
    if made.return_code:
        fail("no Python environment could be made from %s:\n%s" % (venv, made.stderr))
    ctx.file("BUILD", _BUILD.format(python = ctx.path("python/bin/python")))

venv = repository_rule(implementation = _venv_impl, local = True)
