"""What a test leaves behind is found, and fails it."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.leaks import Held
from tests.support.seeds import ROOT


def test_nothing_left_is_nothing_told(tmp_path: Path) -> None:
    assert Held.now(tmp_path).left_since() == []


def test_a_descriptor_is_told_with_what_it_is_of(tmp_path: Path) -> None:
    before = Held.now(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        (left,) = before.left_since()
    finally:
        os.close(descriptor)
    assert left == f"descriptor {descriptor} of {tmp_path}"


def test_a_thread_is_told(tmp_path: Path) -> None:
    before, end = Held.now(tmp_path), threading.Event()
    thread = threading.Thread(target=end.wait, name="left")
    thread.start()
    left = before.left_since()
    end.set()
    thread.join()
    assert left == ["thread 'left'"]


def test_a_child_process_is_told_with_its_command(tmp_path: Path) -> None:
    before = Held.now(tmp_path)
    with subprocess.Popen(["sleep", "1000"]) as child:
        left = [what for what in before.left_since() if what.startswith("child")]
        child.kill()
    assert left == [f"child process {child.pid}: sleep 1000 "]


def test_a_lock_is_told(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    before = Held.now(tmp_path)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    left = before.left_since()
    os.close(descriptor)
    assert [what.split()[0] for what in left] == ["FLOCK"]


LEAVING = """
import os

def test_leaving():
    os.open("/", os.O_RDONLY)

def test_innocent():
    pass
"""


def test_a_test_that_leaves_something_fails_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(LEAVING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-rE"]
    done = subprocess.run(
        [*command, f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={tmp_path}", tmp_path / "test_it.py"],
        cwd=ROOT,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "it leaves behind: descriptor" in done.stdout
    assert "test_it.py::test_leaving" in done.stdout
    assert "2 passed, 1 error" in done.stdout
