"""How large a version is, as far as what is here tells."""

from hyperfs.drive.drive import Drive
from hyperfs.drive.usage import content_end, folder_sizes, shares_here
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


async def test_a_folder_counts_what_is_below_it_and_what_of_it_is_here() -> None:
    own = await new_drive()
    for path, size in {"a": 1, "in/b": 10, "in/deep/c": 100}.items():
        await own.writer.put_file(path, bytes(size))
    content = await own.drive.content()
    own.content.take_away(content.length - 1)
    found = await folder_sizes(own.drive.snapshot())
    assert {path: (each.files, each.size, each.here) for path, each in found.items()} == {
        "": (3, 111, 11),
        "in": (2, 110, 10),
        "in/deep": (1, 100, 0),
    }
    assert list(await folder_sizes(own.drive.snapshot(), "in/deep")) == ["in/deep"]
    assert own.content.questions == 0


async def test_a_run_of_blocks_is_shown_in_equal_parts() -> None:
    own = await new_drive()
    for number in range(5):
        await own.writer.put_file(str(number), b"x")
    own.content.take_away(4)
    content = await own.drive.content()
    assert shares_here(content, range(5), 2) == [1.0, 2 / 3]
    assert shares_here(content, range(1, 5), 10) == [1.0, 1.0, 1.0, 0.0]
    assert shares_here(content, range(3, 3), 10) == []
