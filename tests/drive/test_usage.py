"""How large a version is, as far as what is here tells."""

from hyperfs.drive.drive import Drive
from hyperfs.drive.usage import content_end
from tests.support.drives import new_drive


async def test_a_version_is_as_large_as_its_newest_files_tell() -> None:
    own = await new_drive()
    await own.writer.put_file("a", b"12345")
    older = own.drive.snapshot()
    await own.writer.put_file("b", b"678")
    await own.writer.tag("v1")
    assert (content_end(older), content_end(own.drive.snapshot())) == (5, 8)


async def test_what_is_not_here_is_not_asked_for() -> None:
    own = await new_drive()
    await own.writer.put_file("a", b"12345")
    own.metadata.take_away(own.metadata.length - 1)
    drive = await Drive.open(own.cores, own.drive.key)
    assert (content_end(drive.snapshot()), own.metadata.questions) == (0, 0)
