"""A folder that is imported into a drive, and what is in the drive then."""

from pathlib import Path

import pytest

from hyperfs.drive.import_plan import plan_import
from hyperfs.drive.importer import ImportResult, run_import
from tests.support.drives import OwnDrive


async def bring(own: OwnDrive, source: Path, *, delete: bool = False, into: str = "") -> ImportResult:
    plan = await plan_import(own.drive.snapshot(), source, delete=delete, into=into)
    return await run_import(plan, own.committer, clock=lambda: 77)


async def contents(own: OwnDrive) -> dict[str, bytes]:
    snapshot = own.drive.snapshot()
    return {
        entry.path: await snapshot.read(entry, 0, entry.stat.size)
        async for entry in snapshot.walk()
        if not entry.is_directory and not entry.stat.is_link
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "c.txt").write_bytes(b"hello")
    (folder / "empty").mkdir()
    (folder / "zero").touch()
    (folder / "link").symlink_to("a/b/c.txt")
    (folder / "big").write_bytes(bytes(range(256)) * 4097)
    return folder
