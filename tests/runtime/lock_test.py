"""The lock of a run directory."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import tensorflow as tf

from tas_tf.errors import RunDirectoryError
from tas_tf.runtime import files, lock
from tas_tf.runtime.lock import check_free, locked
from tas_tf.runtime.run_directory import LOCK, RunDirectory

HOLDER = """
import sys, time
from tas_tf.runtime.lock import locked
from tas_tf.runtime.run_directory import RunDirectory
with locked(RunDirectory(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["disk", "ram"])
def directory(request, tmp_path):
    path = str(tmp_path / "run")
    made = RunDirectory(path if request.param == "disk" else f"ram://{path}")
    made.make()
    return made


def test_one_at_a_time(directory):
    check_free(directory)
    with locked(directory):
        owner = json.loads(files.read_text(directory.file(LOCK)))
        assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
        expected = rf"is in use by process {os.getpid()} on .*, started \d{{4}}-\d\d-\d\d \d\d:\d\d"
        for use in (check_free, lambda d: locked(d).__enter__()):
            with pytest.raises(RunDirectoryError, match=expected):
                use(directory)
    assert not directory.exists(LOCK)
    with locked(directory):
        pass


def test_an_error_lets_it_go(directory):
    with pytest.raises(KeyError), locked(directory):
        raise KeyError
    check_free(directory)
    assert not directory.exists(LOCK)


def test_a_killed_process_holds_nothing(tmp_path, capsys):
    directory = RunDirectory(str(tmp_path))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, directory.path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid} on "):
        check_free(directory)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert directory.exists(LOCK)
    check_free(directory)
    with locked(directory):
        assert f"Takes over the lock of process {holder.pid} on" in capsys.readouterr().out


def owner(**fields):
    process = psutil.Process()
    own = {"pid": process.pid, "started": process.create_time(), "alive": time.time()}
    return json.dumps({"host": socket.gethostname(), **own, **fields})


@pytest.mark.parametrize(
    ("fields", "lives"),
    [
        ({}, True),
        ({"alive": 0}, True),
        ({"started": 1e9}, False),  # another process has its number now
        ({"pid": 2**22 + 1}, False),
        ({"host": "elsewhere"}, True),
        ({"host": "elsewhere", "alive": time.time() - 600}, False),
    ],
)
def test_a_written_lock_is_held_by_a_process_that_lives(tmp_path, capsys, fields, lives):
    directory = RunDirectory(f"ram://{tmp_path}/run")
    directory.make()
    files.write_whole(directory.file(LOCK), owner(**fields))
    if lives:
        with pytest.raises(RunDirectoryError, match="in use by process"):
            check_free(directory)
        return
    with locked(directory):
        assert "Takes over the lock of process" in capsys.readouterr().out


def test_a_written_lock_says_that_its_owner_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    directory = RunDirectory(f"ram://{tmp_path}/run")
    directory.make()
    with locked(directory):
        before = json.loads(files.read_text(directory.file(LOCK)))["alive"]
        time.sleep(0.3)
        assert json.loads(files.read_text(directory.file(LOCK)))["alive"] > before


def test_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(lock.errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    directory = RunDirectory(str(tmp_path))
    with locked(directory):
        with pytest.raises(RunDirectoryError, match=f"in use by process {os.getpid()}"):
            check_free(directory)
    assert not directory.exists(LOCK)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\0", b'{"host": 1}', b"[" * 99_999])
def test_a_damaged_lock_is_nobodys(directory, content):
    files.write_whole(directory.file(LOCK), content)
    check_free(directory)
    with locked(directory):
        pass
    assert tf.io.gfile.listdir(directory.path) == []


@pytest.mark.parametrize("pid", [-1, 10**30, "x"])
@pytest.mark.parametrize("started", [1e300, "nan", "x"])
def test_an_owner_that_cannot_be(directory, pid, started):
    files.write_whole(directory.file(LOCK), owner(pid=pid, started=started))
    with locked(directory):
        assert json.loads(files.read_text(directory.file(LOCK)))["pid"] == os.getpid()
    assert not directory.exists(LOCK)
