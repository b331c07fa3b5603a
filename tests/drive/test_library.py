"""The public library: the examples of docs/library.md do what the page says, and importing is cheap."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hyperfs
from hyperfs.errors import BlockNotAvailable, InvalidKey, NotWritable, PathError, StoreLocked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"
SECTION = re.compile(r"## ([^\n]+)\n(?:(?!\n## ).)*?```python\n(.*?)```\n\nIt prints:\n\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = SECTION.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 7


@pytest.mark.parametrize(
    ("code", "printed"), [pytest.param(code, printed, id=title) for title, code, printed in EXAMPLES]
)
def test_an_example_prints_what_the_page_says(code: str, printed: str, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(PAGE.parent.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (printed, "")


def test_importing_the_package_alone_imports_no_room() -> None:
    code = "import sys, hyperfs; print([name for name in sys.modules if name.startswith(('hyperfs.', 'trio'))])"
    environment = {"PYTHONPATH": str(PAGE.parent.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", hyperfs.__all__)
def test_what_is_promised_is_there(name: str) -> None:
    assert getattr(hyperfs, name) is not None


def test_nothing_else_is() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = hyperfs.nope  # type: ignore[attr-defined]  # the point of the test


async def test_a_drive_is_there_when_the_store_is_opened_again(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        await (await store.writer(drive)).put_file("f", b"kept")
    async with hyperfs.open_store(tmp_path / "store") as store:
        snapshot = (await store.drive(drive.key)).snapshot()
        assert await snapshot.read(await snapshot.stat("f"), 0, 10) == b"kept"


async def test_a_store_has_one_owner(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store"):
        with pytest.raises(StoreLocked):
            await hyperfs.open_store(tmp_path / "store").__aenter__()


async def test_a_malformed_key_is_refused(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        with pytest.raises(InvalidKey):
            await store.drive("hyper://abc")


async def test_somebody_elses_drive_is_not_written(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        drive = await store.create_drive()
        await (await store.writer(drive)).put_file("f", b"x")
        pinned = await store.drive(drive.key, version=1)
        with pytest.raises(NotWritable):
            await store.writer(pinned)


async def test_an_inner_drive_of_the_same_store_is_written_through_the_outer_one(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "store") as store:
        outer, middle, innermost = [await store.create_drive() for _ in range(3)]
        await (await store.writer(middle)).mount("b", innermost.key)
        writer = await store.writer(outer)
        await writer.mount("a", middle.key)
        before = outer.version
        await writer.put_file("a/b/f", b"deep")
        await writer.rename("a/b/f", "a/b/g")
        await writer.symlink("a/link", "b/g")
        assert (outer.version, innermost.version > 1, middle.version > 2) == (before, True, True)
        for drive, path in ((outer, "a/b/g"), (middle, "b/g"), (innermost, "g")):
            snapshot = drive.snapshot()
            assert await snapshot.read(await snapshot.stat(path), 0, 10) == b"deep"
        with pytest.raises(PathError) as refused:
            await writer.rename("a/b/g", "a/g")
        assert refused.value.errno == errno.EXDEV
        await writer.unmount("a/b")
        assert [entry.name async for entry in middle.snapshot().list()] == ["link"]


async def test_what_is_mounted_at_a_version_or_is_not_ours_is_not_written_through(tmp_path: Path) -> None:
    async with hyperfs.open_store(tmp_path / "theirs") as theirs:
        foreign = (await theirs.create_drive()).key
    async with hyperfs.open_store(tmp_path / "store") as store:
        outer, inner = await store.create_drive(), await store.create_drive()
        writer = await store.writer(outer)
        await writer.mount("old", inner.key, version=1)
        await writer.mount("self", outer.key)
        await writer.mount("foreign", foreign)
        for path, code in (("old/f", errno.EROFS), ("self/f", errno.ELOOP)):
            with pytest.raises(PathError) as refused:
                await writer.put_file(path)
            assert refused.value.errno == code
        with pytest.raises(BlockNotAvailable):
            await writer.put_file("foreign/f")
