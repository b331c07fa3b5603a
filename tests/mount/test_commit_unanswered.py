"""A commit of which nobody can say at once whether it stands: it is found out, not made twice nor taken for theirs."""

import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from hyperfs.errors import DaemonError
from tests.support.workspaces import Paths


class Wire:
    """What lies between a workspace and its drive's committer: answers are lost on it, and commits."""

    def __init__(self, paths: Paths) -> None:
        self.after: Callable[[], Awaitable[None]] | None = None
        """What happens when the next commit was made, instead of the answer."""
        self.instead: Callable[[], Awaitable[None]] | None = None
        """What happens instead of the next commit."""
        self.is_cut = False
        self._commit = paths.own.committer.commit
        self._sync = paths.own.committer.sync
        paths.own.committer.commit = self.commit  # type: ignore[method-assign]
        paths.own.committer.sync = self.sync  # type: ignore[method-assign]

    async def commit(self, *arguments: Any, **keywords: Any) -> int:
        if self.instead is not None:
            instead, self.instead = self.instead, None
            await instead()
        version = await self._commit(*arguments, **keywords)
        if self.after is not None:
            after, self.after = self.after, None
            await after()
        return version

    async def sync(self) -> None:
        if self.is_cut:
            raise DaemonError("the daemon is gone")
        await self._sync()


async def staged(tmp_path: Path) -> tuple[Paths, Wire]:
    paths = await Paths.open(tmp_path)
    await paths.put("f", b"hello")
    return paths, Wire(paths)


async def test_the_version_that_was_made_is_returned_not_the_newest(tmp_path: Path) -> None:
    paths, wire = await staged(tmp_path)

    async def others_commit() -> None:
        await paths.own.writer.make_directory("theirs")
        raise DaemonError("the daemon went away")

    before = paths.own.drive.version
    wire.after = others_commit
    assert (await paths.commit()).version == before + 1
    assert paths.own.drive.version == before + 2
    await paths.maker.rebase(paths.own.drive.snapshot())
    assert await paths.tree() == {"f": b"hello", "theirs": None}
    assert paths.workspace.is_clean


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "cannot sync"), DaemonError("the daemon went away")])
async def test_what_stands_is_not_taken_for_somebody_elses(tmp_path: Path, failure: Exception) -> None:
    paths, wire = await staged(tmp_path)

    async def fail() -> None:
        raise failure

    wire.after = fail
    version = (await paths.commit()).version
    assert paths.workspace.is_clean
    assert (await paths.commit()).version == version == paths.own.drive.version
    assert paths.own.content.byte_length == 5


async def test_while_nobody_can_be_asked_it_stays_open_and_the_mount_goes_on(tmp_path: Path) -> None:
    paths, wire = await staged(tmp_path)

    async def go_away() -> None:
        wire.is_cut = True
        raise DaemonError("the daemon went away")

    wire.after = go_away
    with pytest.raises(DaemonError):
        await paths.commit()
    await paths.write("f", b"HE")
    await paths.rename("f", "g")
    await paths.put("f", b"new")
    expected = {"f": b"new", "g": b"HEllo"}
    assert await paths.tree() == expected
    again = await Paths.open(tmp_path, paths.own)
    assert await again.tree() == expected
    wire.is_cut = False
    await paths.commit()
    assert await paths.drive_tree() == expected
    assert paths.own.content.byte_length == 5 + 3 + 5


async def test_one_that_never_came_is_made_again(tmp_path: Path) -> None:
    paths, wire = await staged(tmp_path)

    async def get_lost() -> None:
        wire.is_cut = True
        raise DaemonError("the daemon went away")

    wire.instead = get_lost
    with pytest.raises(DaemonError):
        await paths.commit()
    assert await paths.tree() == {"f": b"hello"}
    wire.is_cut = False
    await paths.commit()
    assert await paths.drive_tree() == {"f": b"hello"}


async def test_cancelled_while_it_was_sent_it_is_found(tmp_path: Path) -> None:
    paths, wire = await staged(tmp_path)
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

        wire.after = cancel
        await paths.commit()
    version = paths.own.drive.version
    await paths.commit()
    assert paths.own.drive.version == version
    assert paths.own.content.byte_length == 5
    assert await paths.tree() == await paths.drive_tree() == {"f": b"hello"}
