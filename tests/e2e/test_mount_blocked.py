"""Blocks that nobody has hold up who asks for them, and nobody else."""

import concurrent.futures
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.mounts import DEADLINE_SECONDS, Mounted, comes_true

AWAY = 30
HERE = 50
PREPARE = """
async with own.writer.batch() as batch:
    for number in range(AWAY):
        await batch.put_file(f"away/{number}", bytes([number % 256]) * 200_000)
    for number in range(HERE):
        await batch.put_file(f"here/{number}", bytes([number]) * 200_000)
    await batch.put_file("late", b"late" * 1000)
"""
TAKE_AWAY = """
for number in range({}):
    entry = await own.drive.snapshot().stat(f"away/{{number}}")
    own.content.take_away(*(await own.drive.snapshot().open(entry)).run.blocks)
"""
NEVER = 600.0
"""A time limit that no test lives to see."""
WAITING = "return own.content.waiting"


@contextmanager
def mounted(tmp_path: Path, *, timeout: float, lookup_timeout: float = 5.0, away: int = AWAY) -> Iterator[Mounted]:
    prepare = PREPARE.replace("AWAY", str(away)).replace("HERE", str(HERE))
    with Mounted(
        tmp_path / "drive", prepare=prepare, timeout_seconds=timeout, lookup_timeout_seconds=lookup_timeout
    ) as mount:
        yield mount


@contextmanager
def readers(mount: Mounted, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Let ``count`` processes read files that are away, and return once all of them wait."""
    program = "import os, sys; [os.fork() or (open(p, 'rb').read(), os._exit(0)) for p in sys.argv[1:]]"
    paths = [str(mount.path / "away" / str(number)) for number in range(count)]
    list(map(os.stat, paths))
    with subprocess.Popen([sys.executable, "-c", program, *paths], start_new_session=True) as process:
        try:
            assert comes_true(lambda: mount.run(WAITING) >= count)
            yield [process]
        finally:
            mount.run("own.content.put_back()")
            os.killpg(process.pid, signal.SIGKILL)


def test_local_work_goes_on_beside_blocked_readers(tmp_path: Path) -> None:
    count = 300
    with mounted(tmp_path, timeout=NEVER, away=count) as mount:
        mount.run(TAKE_AWAY.format(count))
        with readers(mount, count):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                done = pool.map(lambda number: (mount.path / "here" / str(number)).read_bytes()[:1], range(HERE))
                assert list(done) == [bytes([number]) for number in range(HERE)]
            assert len(os.listdir(mount.path / "away")) == count
            assert mount.run(WAITING) >= count


def test_a_block_that_nobody_has_is_an_error_after_the_timeout(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=0.5) as mount:
        mount.run(TAKE_AWAY.format(1))
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "away/0").read_bytes()
        assert comes_true(lambda: any("away/0" in line and "block 0 of core" in line for line in mount.log))


def test_a_file_is_readable_once_its_blocks_have_come(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=0.5) as mount:
        mount.run(TAKE_AWAY.format(1))
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "away/0").read_bytes()
        mount.run("own.content.put_back()")
        assert (mount.path / "away/0").read_bytes() == bytes(200_000)


def test_a_reader_goes_on_when_the_blocks_come_in_time(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER) as mount:
        mount.run(TAKE_AWAY.format(1))
        with subprocess.Popen(["cat", mount.path / "away/0"], stdout=subprocess.PIPE) as cat:
            assert comes_true(lambda: mount.run(WAITING) > 0)
            mount.run("own.content.put_back()")
            output, _ = cat.communicate(timeout=DEADLINE_SECONDS)
        assert output == bytes(200_000)


def test_a_reader_that_is_killed_ends_at_once_and_his_file_is_released_after_what_he_waited_for(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER) as mount:
        mount.run(TAKE_AWAY.format(1))
        with subprocess.Popen(["cat", mount.path / "away/0"], stdout=subprocess.PIPE) as cat:
            assert comes_true(lambda: mount.run(WAITING) > 0)
            cat.kill()
            assert cat.wait(DEADLINE_SECONDS) == -signal.SIGKILL
        mount.run("own.content.put_back()")
        assert comes_true(lambda: mount.run("return len(list(operations.files))") == 0)


def test_a_blocked_lookup_leaves_other_folders_alone(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER, lookup_timeout=NEVER) as mount:
        mount.run(BLOCK_LOOKUPS)
        with subprocess.Popen(["stat", mount.path / "away/7"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stat:
            assert comes_true(lambda: mount.run("return state['blocked']") > 0)
            assert (mount.path / "here/3").read_bytes()[:1] == b"\x03"
            assert len(os.listdir(mount.path / "here")) == HERE
            assert stat.poll() is None
            mount.run("state['event'].set()")
            assert stat.wait(DEADLINE_SECONDS) == 0


def test_a_lookup_is_given_up_at_its_own_deadline(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER, lookup_timeout=0.5) as mount:
        mount.run(BLOCK_LOOKUPS)
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "away/7").stat()


def test_a_new_version_is_shown_while_readers_and_lookups_are_blocked(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER, lookup_timeout=NEVER) as mount:
        mount.run(TAKE_AWAY.format(AWAY))
        assert not (mount.path / "here/new").exists()
        (mount.path / "late").stat()
        with readers(mount, 20):
            mount.run(BLOCK_LOOKUPS)
            with subprocess.Popen(["stat", mount.path / "away/29"], stdout=subprocess.PIPE) as stat:
                assert comes_true(lambda: mount.run("return state['blocked']") > 0)
                mount.run(
                    "async with own.writer.batch() as batch:\n"
                    " await batch.put_file('away/3', b'changed')\n"
                    " await batch.put_file('away/new', b'x')\n"
                    " await batch.put_file('here/new', b'x')"
                )
                assert comes_true((mount.path / "here/new").exists)
                mount.run("state['event'].set()")
                assert stat.wait(DEADLINE_SECONDS) == 0
        assert comes_true(lambda: (mount.path / "away/3").read_bytes() == b"changed")


def test_it_unmounts_while_readers_are_blocked(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER) as mount:
        mount.run(TAKE_AWAY.format(1))
        with subprocess.Popen(["cat", mount.path / "away/0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as cat:
            assert comes_true(lambda: mount.run(WAITING) > 0)
            assert mount.terminate() == 0
            assert not mount.is_mounted()
            assert cat.wait(DEADLINE_SECONDS) == 1


def test_killing_it_frees_who_waits_for_a_file_that_has_changed(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER) as mount:
        mount.run(TAKE_AWAY.format(1))
        with subprocess.Popen(["cat", mount.path / "away/0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as cat:
            assert comes_true(lambda: mount.run(WAITING) > 0)
            assert not (mount.path / "away/new").exists()
            mount.run("await own.writer.put_file('away/0', b'changed'); await own.writer.put_file('away/new', b'x')")
            assert comes_true((mount.path / "away/new").exists)
            assert mount.terminate(signal.SIGKILL) == -signal.SIGKILL
            assert cat.wait(DEADLINE_SECONDS) == 1


def test_reading_on_fetches_ahead_and_a_small_read_does_not(tmp_path: Path) -> None:
    with mounted(tmp_path, timeout=NEVER) as mount:
        mount.run("await own.writer.put_file('film', bytes(30_000_000))")
        assert comes_true((mount.path / "film").exists)
        mount.run("own.content.take_away(own.content.length - 1)")  # or nothing would have to be fetched
        with (mount.path / "film").open("rb") as file:
            file.read(1000)
            assert mount.run("return own.content.aheads") == []
            for _ in range(50):
                file.read(200_000)
            # Several are asked for in one turn of the loop, which takes them in any order.
            assert comes_true(lambda: any(sum(ahead) > 10_000_000 for ahead in mount.run("return own.content.aheads")))
        aheads = sorted(mount.run("return own.content.aheads"))
        assert aheads[-1][1] > aheads[0][1]


BLOCK_LOOKUPS = """
import trio
state["event"] = trio.Event()
state["blocked"] = 0
view = operations.view
lookup, lookup_now = view.lookup, view.lookup_now
def is_away(parent):
    return view.inodes.path(parent) == b"away"
async def blocking(parent, name):
    if is_away(parent):
        state["blocked"] += 1
        await state["event"].wait()
    return await lookup(parent, name)
view.lookup = blocking
view.lookup_now = lambda parent, name: None if is_away(parent) else lookup_now(parent, name)
"""
