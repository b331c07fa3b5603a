"""What becomes of what is staged when somebody else commits to the drive."""

from pathlib import Path

import pytest

from hyperfs.drive.drive import Drive
from hyperfs.errors import BlockNotAvailable
from tests.support.workspaces import Paths


async def opened(tmp_path: Path) -> Paths:
    paths = await Paths.open(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/f", b"ours")
    await paths.put("d/g", b"ours")
    await paths.commit()
    return paths


async def rebase(paths: Paths) -> None:
    await paths.maker.rebase(paths.own.drive.snapshot())


async def test_what_is_not_staged_becomes_theirs(tmp_path: Path) -> None:
    paths = await opened(tmp_path)
    number = await paths.number("d/f")
    content = await paths.workspace.open(number, writing=False)
    assert content is not None
    await paths.own.writer.put_file("d/f", b"theirs, and longer")
    await rebase(paths)
    assert await content.read(0, 100) == b"theirs, and longer"
    assert (await paths.tree())["d/f"] == b"theirs, and longer"


async def test_what_is_staged_stays_ours(tmp_path: Path) -> None:
    paths = await opened(tmp_path)
    await paths.write("d/f", b"OURS")
    await paths.own.writer.put_file("d/f", b"theirs")
    await paths.own.writer.delete("d/g")
    await rebase(paths)
    expected = {"d": None, "d/f": b"OURS"}
    assert await paths.tree() == expected
    await paths.commit()
    assert await paths.drive_tree() == expected


async def test_a_folder_that_they_removed_is_there_for_what_is_staged_in_it(tmp_path: Path) -> None:
    paths = await opened(tmp_path)
    await paths.write("d/f", b"OURS")
    await paths.put("d/new", b"new")
    await paths.own.writer.delete_tree("d")
    await rebase(paths)
    expected = {"d": None, "d/f": b"OURS", "d/new": b"new"}
    assert await paths.tree() == expected
    await paths.commit()
    assert await paths.drive_tree() == expected


async def test_a_folder_in_the_place_of_a_file_takes_nothing_along(tmp_path: Path) -> None:
    paths = await opened(tmp_path)
    await paths.workspace.tree.touch(await paths.number("d/f"))
    async with paths.own.writer.batch() as batch:
        await batch.delete_tree("d")
        await batch.put_file("d", b"a file")
    await rebase(paths)
    assert await paths.tree() == {"d": b"a file"}


async def test_who_has_open_what_was_unlinked_reads_what_it_was(tmp_path: Path) -> None:
    paths = await opened(tmp_path)
    content = await paths.workspace.open(await paths.number("d/f"), writing=False)
    assert content is not None
    await paths.unlink("d/f")
    await paths.own.writer.put_file("d/f", b"theirs")
    await rebase(paths)
    assert await content.read(0, 100) == b"ours"
    assert "d/f" not in await paths.tree()


async def test_a_version_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    paths = await opened(tmp_path)
    await paths.workspace.open(await paths.number("d/f"), writing=False)
    await paths.workspace.open(await paths.number("d/g"), writing=False)
    before = paths.workspace.tree.snapshot
    async with paths.own.writer.batch() as batch:
        await batch.put_file("d/f", b"theirs")
        await batch.put_file("d/g", b"theirs")
    snapshot = (await Drive.open(paths.own.cores, paths.own.drive.key)).snapshot()  # with nothing of it in memory
    paths.own.metadata.take_away(snapshot.version - 1)
    with pytest.raises(BlockNotAvailable):
        await paths.maker.rebase(snapshot)
    assert paths.workspace.tree.snapshot is before
    paths.own.metadata.put_back()
    await rebase(paths)
    assert await paths.tree() == {"d": None, "d/f": b"theirs", "d/g": b"theirs"}


async def test_what_is_staged_while_a_version_is_looked_at_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await opened(tmp_path)
    await paths.workspace.open(await paths.number("d/f"), writing=True)
    await paths.own.writer.put_file("d/f", b"theirs")
    await paths.own.writer.put_file("d/g", b"theirs")
    snapshot = paths.own.drive.snapshot()
    look = type(snapshot).stat
    meanwhile = [lambda: paths.write("d/f", b"OURS"), lambda: paths.rename("d/g", "d/h")]

    async def look_slowly(self: object, path: str) -> object:
        while self is snapshot and meanwhile:
            await meanwhile.pop()()
        return await look(self, path)  # type: ignore[arg-type]

    monkeypatch.setattr(type(snapshot), "stat", look_slowly)
    await paths.maker.rebase(snapshot)
    monkeypatch.undo()
    expected = {"d": None, "d/f": b"OURS", "d/h": b"theirs"}
    assert await paths.tree() == expected
    await paths.commit()
    assert await paths.drive_tree() == expected
