"""What is to be brought of a drive is found as ranges of blocks, and brought as far as anybody has it."""

import pytest

from hyperfs.drive.wanted import bring, find_wanted
from hyperfs.errors import PathError
from tests.support.drives import OwnDrive, new_drive


@pytest.fixture
async def own() -> OwnDrive:
    """A drive of three files in a folder, one of two blocks' bytes, and one in the root."""
    own = await new_drive()
    async with own.writer.batch() as batch:
        for number in range(3):
            await batch.put_file(f"folder/{number}", b"content " * (number + 1))
        await batch.put_file("root", b"root")
    return own


async def test_of_a_whole_drive_all_content_is_wanted_in_one_range(own: OwnDrive) -> None:
    wanted = await find_wanted(own.drive.snapshot(), [""])
    (runs,) = wanted.blocks.values()
    assert (wanted.files, wanted.byte_count, runs) == (4, 52, [range(own.content.length)])


async def test_what_is_named_twice_is_wanted_once(own: OwnDrive) -> None:
    wanted = await find_wanted(own.drive.snapshot(), ["folder", "folder/1"])
    assert (wanted.files, wanted.byte_count) == (3, 48)


async def test_a_path_that_there_is_not_is_told(own: OwnDrive) -> None:
    with pytest.raises(PathError):
        await find_wanted(own.drive.snapshot(), ["root", "nothing"])


async def test_what_comes_is_brought_however_often_asking_fails_meanwhile(own: OwnDrive) -> None:
    wanted = await find_wanted(own.drive.snapshot(), [""])
    own.content.take_away(*range(own.content.length))
    own.content.is_far = True
    own.content.brings_at_once = 1
    ((core, runs),) = wanted.blocks.items()
    assert wanted.bytes_here == 0
    assert await bring(core, runs) is None
    assert wanted.bytes_here == wanted.byte_count


async def test_what_nobody_has_is_given_up_and_said(own: OwnDrive) -> None:
    wanted = await find_wanted(own.drive.snapshot(), [""])
    own.content.take_away(1)
    ((core, runs),) = wanted.blocks.items()
    assert "block 1" in str(await bring(core, runs))
    assert 0 < wanted.bytes_here < wanted.byte_count
