"""What a journal says, on the disk and as values: each is made of the other, and nothing else is taken for either."""

import msgpack
import pytest

from hyperfs.core.reader import Run
from hyperfs.errors import EncodingError
from hyperfs.mount.staging.records import (
    AttributesSet,
    CommitSent,
    Exchanged,
    LeftOut,
    Made,
    Place,
    Record,
    Removed,
    Renamed,
    Synced,
    UserAttributeSet,
    Written,
    decode,
    encode,
)

# What the first version of the journal had on the disk, for people who upgrade with staged files.
FORMS: list[tuple[Record, list[object]]] = [
    (Made("d/f", 0o100644, 1, 2, None), ["n", 7, "d/f", 0o100644, 1, 2, None]),
    (Made("l", 0o120777, 1, 2, "d/f"), ["n", 7, "l", 0o120777, 1, 2, "d/f"]),
    (Removed("d"), ["u", 7, "d"]),
    (Renamed("a", "b"), ["r", 7, "a", "b"]),
    (Exchanged("a", "b"), ["x", 7, "a", "b"]),
    (AttributesSet("f", 0o100600, 1, 2, 1234), ["a", 7, "f", 0o100600, 1, 2, 1234]),
    (UserAttributeSet("f", "user.x", b"\xff"), ["m", 7, "f", "user.x", b"\xff"]),
    (UserAttributeSet("f", "user.x", None), ["m", 7, "f", "user.x", None]),
    (
        Written("f", 30, 20, 10, Run(range(3, 5), 900, 20), [Place(0, 4, 1, 65536), Place(20, 30, 2, 0)], 1234),
        ["c", 7, "f", 30, 20, 10, [3, 2, 900, 20], [[0, 4, 1, 65536], [20, 30, 2, 0]], 1234],
    ),
    (Written("f", 4, 0, 0, None, [], 1234), ["c", 7, "f", 4, 0, 0, None, [], 1234]),
    (
        LeftOut("f", 0o100644, 1, 2, None, [("user.x", b"1"), ("user.y", None)]),
        ["s", 7, "f", 0o100644, 1, 2, None, [["user.x", b"1"], ["user.y", None]]],
    ),
    (CommitSent(4, 17, "f", b"stat"), ["p", 7, 4, 17, "f", b"stat"]),
    (CommitSent(4, 17, "f", None), ["p", 7, 4, 17, "f", None]),
    (Synced(), ["k", 7]),
]


@pytest.mark.parametrize(("record", "form"), FORMS)
def test_a_record_is_what_it_was_when_it_is_read(record: Record, form: list[object]) -> None:
    assert msgpack.unpackb(encode(record, 7)) == form
    assert decode(msgpack.packb(form)) == (record, 7)


@pytest.mark.parametrize("form", [form for _, form in FORMS])
def test_a_record_with_any_field_missing_added_or_of_another_type_is_refused(form: list[object]) -> None:
    bent = [form[:-1], [*form, 0], *([*form[:at], {}, *form[at + 1 :]] for at in range(len(form)))]
    for one in bent:
        with pytest.raises(EncodingError):
            decode(msgpack.packb(one))


@pytest.mark.parametrize(
    "form",
    [
        None,
        7,
        [],
        ["z", 7, "of a later version"],
        ["u", -1, "f"],
        ["c", 7, "f", -1, 0, 0, None, [], 0],
        ["c", 7, "f", 9, 0, 0, None, [[5, 5, 1, 0]], 0],
        ["c", 7, "f", 9, 0, 0, None, [[0, 5, 1]], 0],
        ["c", 7, "f", 9, 0, 0, [1, 2, 3], [], 0],
        ["s", 7, "f", 0o100644, 1, 2, None, [["user.x"]]],
    ],
)
def test_what_no_version_wrote_is_refused(form: object) -> None:
    with pytest.raises(EncodingError):
        decode(msgpack.packb(form))
