"""A disk that becomes full of staged bytes: a write fails as long as what is staged can still be committed."""

import errno
import random
import stat as st
from pathlib import Path

import pytest

from hyperfs.drive.library import open_store
from hyperfs.mount.inodes import ROOT
from hyperfs.mount.staging.committing import CommitMaker
from hyperfs.mount.staging.recovery import recover
from hyperfs.mount.staging.workspace import Workspace
from tests.support.disks import small_disk


async def fill(workspace: Workspace, most_bytes: int, chance: random.Random) -> dict[str, bytes]:
    """Write files, of up to so many bytes, until there is no room; return what was written and synced."""
    written: dict[str, bytes] = {}
    failures = 0
    while failures < 5:
        name, data = f"f{len(written)}-{failures}", chance.randbytes(chance.randrange(1, most_bytes))
        try:
            node = await workspace.names.make(ROOT, name, st.S_IFREG | 0o600, uid=0, gid=0)
            workspace.opened(node.number)
            await workspace.write(node.number, 0, data)
            await workspace.flush(node.number)
            workspace.released(node.number)
            if len(written) % 50 == 0:
                await workspace.sync()
            written[name] = data
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            failures += 1
    await workspace.sync()
    return written


@pytest.mark.parametrize(("most_bytes", "mebibytes"), [(400, 12), (20_000, 24), (3_000_000, 24)])
async def test_all_that_was_staged_before_the_disk_was_full_can_be_committed(
    tmp_path: Path, most_bytes: int, mebibytes: int
) -> None:
    with small_disk(tmp_path / "disk", mebibytes) as disk:
        async with open_store(disk / "store") as store:
            drive = await store.create_drive()
            committer = await store.committer(drive)
            workspace = Workspace(drive.snapshot(), disk / "staging")
            await recover(workspace, committer)
            written = await fill(workspace, most_bytes, random.Random(most_bytes))
            assert len(written) > 5
            await CommitMaker(workspace, drive, committer).commit()
            workspace.close()
            snapshot = drive.snapshot()
            for name, data in written.items():
                assert await snapshot.read(await snapshot.stat(name), 0, len(data)) == data
