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

def checked_library(name, srcs = None, deps = [], data = []):
    """A package of tas_tf, whose build carries out its imports where only `deps` are.

    Args:
        name: The package's name.
        srcs: Its Python files; all of the folder unless given.
        deps: The packages that it imports, in the order of tests/project/layering_test.py.
        data: What it reads of other folders.
    """
    srcs = srcs or native.glob(["*.py"])
    py_library(
        name = name,
        srcs = srcs,
        # Templates and marks of types, and the BUILD file, which a test reads.
        data = data + native.glob(["**"], exclude = ["**/*.py", "**/*.pyc"]),
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

def test_folder(name, folder, data = []):
    """The fast tests of a folder, as one test that fails where there is none.

    Args:
        name: The test's name.
        folder: The folder within tests/; "" for tests/ itself.
        data: What the tests read beside the packages, what they share and the checkout's files.
    """
    prefix = folder + "/" if folder else ""
    py_test(
        name = name,
        timeout = "eternal",
        srcs = native.glob(["conftest.py", "support/*.py", prefix + "*.py"]) + [
            "//bazel:run_pytest.py",
        ],
        args = ["tests/" + path for path in native.glob([prefix + "*_test.py"])],
        data = data + ["//:checkout", _INSTALLED],
        main = "//bazel:run_pytest.py",
        deps = ["//tas_tf:commands"],
    )
