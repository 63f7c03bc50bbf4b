"""Packages of tas_tf, the commands and the tests, as this checkout builds them."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")

# What .venv has installed: everything runs again when it changes.
_INSTALLED = "@venv//:installed.stamp"
_BASE = "//tas_tf:base"

def _checked_impl(ctx):
    report = ctx.actions.declare_file(ctx.label.name + ".txt")
    ctx.actions.run(
        outputs = [report],
        executable = ctx.executable.check,
        arguments = [report.path] + ctx.attr.files,
        progress_message = "Importing the files of //" + ctx.label.package,
        use_default_shell_env = True,
    )
    return [DefaultInfo(files = depset([report]))]

_checked = rule(
    implementation = _checked_impl,
    attrs = {
        "check": attr.label(executable = True, cfg = "target"),
        "files": attr.string_list(),
    },
)

def room(name, srcs = None, deps = [], data = []):
    """A package of tas_tf, whose build carries out its imports where only `deps` are.

    Args:
        name: The package's name.
        srcs: Its files; every file of the folder unless given.
        deps: The packages that it imports, in the order of tests/project/layering_test.py.
        data: What else it reads.
    """
    srcs = srcs or native.glob(["*.py"])
    py_library(
        name = name,
        srcs = srcs,
        data = data + ["BUILD.bazel"],  # for the test that compares `deps` with the imports
        visibility = ["//visibility:public"],
        deps = deps + ([] if name == "base" else [_BASE]),
    )
    py_binary(
        name = name + "_imports",
        srcs = ["//bazel:check_imports.py"],
        data = [_INSTALLED],
        main = "//bazel:check_imports.py",
        deps = [name],
    )
    _checked(
        name = name + "_imports_checked",
        check = name + "_imports",
        files = ["%s/%s" % (native.package_name(), src) for src in srcs],
    )

def command(name):
    """A command of tas_tf, run as `tools/bazel run //:NAME -- FLAGS` in the caller's directory."""
    py_binary(
        name = name,
        srcs = ["//bazel:run_command.py"],
        args = [name],
        main = "//bazel:run_command.py",
        deps = ["//tas_tf:commands"],
    )

def test_folder(name):
    """The fast tests of a folder, as one test that fails where there is none."""
    py_test(
        name = name + "_tests",
        timeout = "eternal",
        srcs = native.glob([name + "/*.py", "support/*.py"]) + [
            "conftest.py",
            "//bazel:run_pytest.py",
        ],
        args = ["tests/" + name],
        data = ["//:checkout", _INSTALLED],
        main = "//bazel:run_pytest.py",
        deps = ["//tas_tf:commands"],
    )
