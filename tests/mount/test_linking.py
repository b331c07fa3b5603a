"""A drive is mounted in one that is being written to: at once, and in one order with what is staged."""

import errno
from pathlib import Path

import pytest

from hyperfs.drive.stat import MountTarget
from hyperfs.errors import PathError
from tests.support.drives import OwnDrive, new_drive
from tests.support.workspaces import Paths


async def own_and_inner(directory: Path) -> tuple[Paths, OwnDrive]:
    inner = await new_drive()
    await inner.writer.put_file("f", b"inner")
    return await Paths.open(directory, await new_drive(inner.cores)), inner


async def test_a_linked_drive_is_seen_at_once_beside_what_is_staged(tmp_path: Path) -> None:
    paths, inner = await own_and_inner(tmp_path)
    await paths.mkdir("d")
    await paths.put("d/staged", b"x")
    version = await paths.maker.link("d/in", MountTarget(inner.drive.key))
    assert version == paths.workspace.tree.snapshot.version == paths.own.drive.version
    assert await paths.tree() == {"d": None, "d/staged": b"x", "d/in": None, "d/in/f": b"inner"}
    await paths.put("d/more", b"y")
    await paths.commit()
    assert await paths.drive_tree() == await paths.tree()


async def test_the_kernel_is_told_of_what_was_linked(tmp_path: Path) -> None:
    paths, inner = await own_and_inner(tmp_path)
    before = paths.workspace.tree.snapshot
    await paths.maker.link("in", MountTarget(inner.drive.key))
    assert [paths.maker.take_untold(), paths.maker.take_untold()] == [before, None]


async def test_nothing_is_linked_over_what_is_only_staged(tmp_path: Path) -> None:
    paths, inner = await own_and_inner(tmp_path)
    await paths.mkdir("in")
    with pytest.raises(PathError) as refused:
        await paths.maker.link("in", MountTarget(inner.drive.key))
    assert refused.value.errno == errno.EEXIST
    await paths.rmdir("in")
    await paths.maker.link("in", MountTarget(inner.drive.key))
    assert "in/f" in await paths.tree()


async def test_what_is_unlinked_is_gone_and_its_name_is_free(tmp_path: Path) -> None:
    paths, inner = await own_and_inner(tmp_path)
    await paths.maker.link("in", MountTarget(inner.drive.key))
    await paths.maker.link("in", None)
    assert await paths.tree() == {}
    await paths.put("in", b"now a file")
    await paths.commit()
    assert await paths.drive_tree() == {"in": b"now a file"}
    assert inner.drive.version == 2


async def test_a_link_is_made_in_the_version_that_somebody_else_has_made_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, inner = await own_and_inner(tmp_path)
    commit = paths.own.committer.commit

    async def after_another(*arguments: object, **options: object) -> int:
        monkeypatch.undo()
        await paths.own.writer.put_file("theirs", b"t")
        return await commit(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(paths.own.committer, "commit", after_another)
    await paths.maker.link("in", MountTarget(inner.drive.key))
    assert await paths.tree() == {"theirs": b"t", "in": None, "in/f": b"inner"}
