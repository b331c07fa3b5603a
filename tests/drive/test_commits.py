"""What a commit is made of, as it is passed on to another process, and whether it was made."""

from typing import Any

import msgpack
import pytest

from hyperfs.drive.commits import Operation, decode_operation, deletion, encode_operation, entry, version_made
from hyperfs.drive.stat import MountTarget, Stat
from hyperfs.errors import EncodingError
from hyperfs.trie import Delete, Put
from tests.support.drives import new_drive

FILE = Stat(0o100644)

OPERATIONS: list[Operation] = [
    entry("dir/file", Stat(0o100644, size=3, blocks=1)),
    entry("mounted", Stat(0o40755, mount=MountTarget(bytes(32)))),
    deletion("dir"),
    Delete("file"),
    Put("hyperdrive-tags/v1", b"\x01", hidden=True),
    Put("nothing", None),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_an_operation_arrives_as_it_was_sent(operation: Operation) -> None:
    sent = msgpack.packb(encode_operation(operation), unicode_errors="surrogateescape")
    assert decode_operation(msgpack.unpackb(sent, unicode_errors="surrogateescape")) == operation


@pytest.mark.parametrize("fields", [None, [], ["delete", 1, False], ["x", "a"]])
def test_anything_else_is_refused(fields: Any) -> None:
    with pytest.raises(EncodingError):
        decode_operation(fields)


async def test_a_commit_that_stands_is_found_with_the_version_it_made_whatever_came_after() -> None:
    own = await new_drive()
    await own.commit(entry("dir/old", FILE))
    operations = [deletion("dir"), entry("new", FILE), deletion("not-there"), entry("other", FILE)]
    made = await own.committer.commit(operations, expected_version=2)
    await own.commit(entry("later", FILE))
    assert made == 5
    assert await version_made(own.drive.snapshot(), 2, operations) == made


async def test_a_commit_that_only_deletes_is_found() -> None:
    own = await new_drive()
    await own.commit(entry("dir/a", FILE), entry("dir/b", FILE), entry("c", FILE))
    operations = [deletion("dir")]
    made = await own.committer.commit(operations, expected_version=4)
    await own.commit(entry("dir/a", FILE))
    assert await version_made(own.drive.snapshot(), 4, operations) == made == 5


async def test_a_commit_that_was_not_made_is_not_found() -> None:
    own = await new_drive()
    operations = [entry("a", FILE), entry("b", FILE)]
    assert await version_made(own.drive.snapshot(), 1, operations) is None
    await own.commit(entry("a", FILE), entry("b", Stat(0o100600)))
    assert await version_made(own.drive.snapshot(), 1, operations) is None


async def test_the_version_that_a_commit_returns_is_the_one_it_made() -> None:
    own = await new_drive()
    append = own.metadata.append

    async def append_and_more(blocks: list[bytes], **more: Any) -> int:
        """Append, and before anybody is told take over what peers have besides."""
        start = await append(blocks, **more)
        await append([b"of a longer tree that holds ours"])
        return start

    own.metadata.append = append_and_more  # type: ignore[method-assign]
    assert await own.commit(entry("a", FILE)) == 2
