"""The kernel is given the bytes of a small file when it is opened, and then does not ask for them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperfs.mount.pages import SMALL_BYTES
from tests.support.mounts import Mounted, comes_true

PREPARE = f"""
async with own.writer.batch() as batch:
    await batch.put_file("small", b"a" * 5000)
    await batch.put_file("largest", b"b" * {SMALL_BYTES})
    await batch.put_file("larger", b"c" * {SMALL_BYTES + 1})
    await batch.put_file("empty", b"")
"""
COUNT_READS = """
state["reads"] = 0
answer = operations.read
async def read(handle, position, size):
    state["reads"] += 1
    return await answer(handle, position, size)
operations.read = read
"""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    with Mounted(tmp_path / "drive", prepare=PREPARE) as mount:
        mount.run(COUNT_READS)
        yield mount


def reads(mounted: Mounted) -> int:
    count: int = mounted.run('return state["reads"]')
    return count


def test_a_small_file_is_read_without_asking(mounted: Mounted) -> None:
    assert (mounted.path / "small").read_bytes() == b"a" * 5000
    assert (mounted.path / "largest").read_bytes() == b"b" * SMALL_BYTES
    assert reads(mounted) == 0


def test_a_larger_file_is_asked_for(mounted: Mounted) -> None:
    assert (mounted.path / "larger").read_bytes() == b"c" * (SMALL_BYTES + 1)
    assert reads(mounted) > 0


def test_an_empty_file_is_empty(mounted: Mounted) -> None:
    assert (mounted.path / "empty").read_bytes() == b""


def test_a_small_file_that_changed_has_its_new_bytes(mounted: Mounted) -> None:
    path = mounted.path / "small"
    assert path.read_bytes() == b"a" * 5000
    mounted.run('await own.writer.put_file("small", b"d" * 4000)')
    assert comes_true(lambda: path.read_bytes() == b"d" * 4000)


def test_who_has_a_small_file_open_sees_it_grow(mounted: Mounted) -> None:
    with (mounted.path / "small").open("rb") as file:
        assert file.read() == b"a" * 5000
        mounted.run('await own.writer.put_file("small", b"a" * 5000 + b"more")')
        assert comes_true(lambda: os.fstat(file.fileno()).st_size == 5004)
        assert file.read() == b"more"


def test_opening_does_not_wait_for_bytes_that_are_not_here(mounted: Mounted) -> None:
    mounted.run("own.content.take_away(*range(own.content.length))")
    with (mounted.path / "small").open("rb") as file:
        mounted.run("own.content.put_back()")
        assert file.read() == b"a" * 5000
    assert reads(mounted) > 0


def test_closing_a_file_that_nobody_can_have_written_to_is_asked_about_once(mounted: Mounted) -> None:
    mounted.run("""
state["flushes"] = 0
answer = operations.flush
async def flush(handle):
    state["flushes"] += 1
    await answer(handle)
operations.flush = flush
""")
    for _ in range(5):
        assert (mounted.path / "larger").read_bytes() == b"c" * (SMALL_BYTES + 1)
    assert mounted.run('return state["flushes"]') == 1
