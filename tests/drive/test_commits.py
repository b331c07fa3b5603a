"""What a commit is made of, as it is passed on to another process."""

from typing import Any

import msgpack
import pytest

from hyperfs.drive.commits import Operation, decode_operation, deletion, encode_operation, entry
from hyperfs.drive.stat import MountTarget, Stat
from hyperfs.errors import EncodingError
from hyperfs.trie import Delete, Put

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
