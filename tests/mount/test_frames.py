"""A journal's bytes: what is damaged costs what was hit and nothing else, and is told from what was not finished."""

import struct
import zlib

import pytest

from hyperfs.errors import LaterFormat
from hyperfs.mount.staging.frames import Contents, Cut, frame, header, parse

BOOT = b"this boot......."
OTHER_BOOT = b"another boot...."
RECORDS = [bytes([65 + number]) * (10 + number) for number in range(6)]


def journal(records: list[bytes] = RECORDS, *, durable_from: int | None = None, zeros: int = 500) -> bytes:
    """A journal of version 2. From record ``durable_from`` on they say that all before that one is durable."""
    data, durable_bytes = header(BOOT), 0
    for index, record in enumerate(records):
        if index == durable_from:
            durable_bytes = len(data)
        data += frame(record, number=3, place=len(data), durable_bytes=durable_bytes)
    return data + bytes(zeros)


def journal_1(records: list[bytes] = RECORDS, *, zeros: int = 500) -> bytes:
    frames = [struct.pack("<II", len(record), zlib.crc32(record)) + record for record in records]
    return b"hyperfs journal 1\n" + b"".join(frames) + bytes(zeros)


def read(data: bytes, *, boot: bytes = BOOT, was_durable: bool = False) -> Contents:
    return parse(data, 3, boot, was_durable=was_durable)


def records_of(contents: Contents) -> list[bytes]:
    return [found.record for found in contents.frames]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


@pytest.mark.parametrize("data", [journal(), journal_1(), journal(zeros=0), journal_1(zeros=0)])
def test_a_whole_journal_of_either_version_is_read_without_damage(data: bytes) -> None:
    contents = read(data)
    assert (records_of(contents), contents.damage, contents.end) == (RECORDS, [], None)


@pytest.mark.parametrize("data", [b"", bytes(4096), journal([])])
def test_a_journal_that_was_only_begun_is_empty_and_not_damaged(data: bytes) -> None:
    contents = read(data)
    assert (records_of(contents), contents.damage, contents.end) == ([], [], None)


@pytest.mark.parametrize("bit", range(8))
def test_one_flipped_bit_costs_one_record_and_is_told(bit: int) -> None:
    whole = journal()
    for at in range(len(whole)):
        try:
            contents = read(flipped(whole, at, bit))
        except LaterFormat:
            assert at in (16, 17)
            continue
        assert contents.damage, at
        lost = [record for record in RECORDS if record not in records_of(contents)]
        assert len(lost) <= 1, at
        assert records_of(contents) == [record for record in RECORDS if record not in lost], at


def test_a_flipped_bit_in_a_record_of_the_first_version_costs_that_record() -> None:
    whole = journal_1()
    at = whole.index(RECORDS[2])
    contents = read(flipped(whole, at, 0))
    assert records_of(contents) == [*RECORDS[:2], *RECORDS[3:]]
    assert contents.damage == [range(at - 8, at + len(RECORDS[2]))]


def test_a_journal_of_a_later_version_is_not_touched() -> None:
    with pytest.raises(LaterFormat, match="version 3"):
        read(journal().replace(b"journal 2", b"journal 3"))


@pytest.mark.parametrize("make", [journal, journal_1])
def test_a_record_that_a_kill_cut_off_at_a_page_is_not_damage(make) -> None:  # type: ignore[no-untyped-def]
    large = bytes(range(1, 256)) * 40
    whole = make([RECORDS[0], large])
    contents = read(whole[:8192].ljust(len(whole), b"\0"))
    assert (records_of(contents), contents.damage) == ([RECORDS[0]], [])


def torn(data: bytes, record: bytes) -> bytes:
    """The disk did not write ``record`` before the power failed, but what is behind it."""
    return data.replace(record, bytes(len(record)))


def test_where_the_power_failed_a_journal_ends_before_the_first_record_that_is_not_there() -> None:
    contents = read(torn(journal(), RECORDS[2]), boot=OTHER_BOOT)
    assert records_of(contents) == RECORDS[:2]
    assert contents.damage == []
    assert contents.end == journal().index(RECORDS[2]) - 20


def test_what_was_durable_before_the_power_failed_is_damaged_and_not_unfinished() -> None:
    contents = read(torn(journal(durable_from=4), RECORDS[2]), boot=OTHER_BOOT)
    assert records_of(contents) == [*RECORDS[:2], *RECORDS[3:]]
    assert contents.damage
    assert contents.end is None
    contents = read(torn(journal(), RECORDS[2]), boot=OTHER_BOOT, was_durable=True)
    assert records_of(contents) == [*RECORDS[:2], *RECORDS[3:]]


def test_what_was_damaged_and_what_was_not_finished_are_told_apart_in_one_journal() -> None:
    data = torn(torn(journal(durable_from=3), RECORDS[1]), RECORDS[4])
    contents = read(data, boot=OTHER_BOOT)
    assert records_of(contents) == [RECORDS[0], RECORDS[2], RECORDS[3]]
    assert len(contents.damage) == 1
    assert contents.end == journal().index(RECORDS[4]) - 20


def test_a_frame_that_lies_in_a_record_is_not_taken_for_one() -> None:
    inner = frame(b"forged", number=3, place=0, durable_bytes=0)
    whole = journal([RECORDS[0], inner, RECORDS[1]])
    contents = read(flipped(whole, whole.index(inner) + len(inner) - 1, 0))
    assert records_of(contents) == RECORDS[:2]


def test_a_journal_says_where_an_earlier_one_ended() -> None:
    assert read(header(BOOT, 0, Cut(2, 700)) + bytes(100)).earlier == Cut(2, 700)
    assert read(header(BOOT)).earlier is None


def test_a_journal_says_where_the_one_before_it_ended() -> None:
    assert read(header(BOOT, 900)).end_before == 900
    assert read(journal()).last == len(journal(zeros=0))
