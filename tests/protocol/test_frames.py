"""Where frames begin and end, in every split, and what cannot be one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import varint
from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol.frames import KEEP_ALIVE, MAX_FRAME_BYTES, FrameReader, encode_frame
from tests.support import vectors
from tests.support.wire import violation

Frame = tuple[int, int, bytes]

VECTORS = vectors.load("frames")["frames"]
FRAMES = st.tuples(st.integers(0, 2**40), st.integers(0, 15), st.binary(max_size=300))


def feed(reader: FrameReader, data: bytes) -> list[Frame]:
    reader.space(len(data))[:] = data
    return [(number, message_type, bytes(body)) for number, message_type, body in reader.frames()]


def feed_pieces(pieces: list[bytes]) -> list[Frame]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in feed(reader, piece)]


def cut(data: bytes, points: list[int]) -> list[bytes]:
    ends = sorted(point % (len(data) + 1) for point in points)
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


STREAM = b"".join(bytes.fromhex(vector["frame"]) for vector in VECTORS)
STREAM_FRAMES = [
    (vector["channel"], vector["type"], bytes.fromhex(vector["frame"])[body:])
    for vector, body in ((vector, 2 if vector["channel"] < 8 else 3) for vector in VECTORS)
]


def test_reference_s_frames_are_read() -> None:
    assert feed_pieces([STREAM]) == STREAM_FRAMES


@pytest.mark.parametrize("vector", range(len(VECTORS)))
def test_reference_s_frames_are_written(vector: int) -> None:
    assert encode_frame(*STREAM_FRAMES[vector]).hex() == VECTORS[vector]["frame"]


def test_byte_by_byte() -> None:
    assert feed_pieces([STREAM[i : i + 1] for i in range(len(STREAM))]) == STREAM_FRAMES


@pytest.mark.parametrize("size", [2, 3, 7, 64])
def test_pieces_of_one_size(size: int) -> None:
    assert feed_pieces([STREAM[i : i + size] for i in range(0, len(STREAM), size)]) == STREAM_FRAMES


@given(frames=st.lists(FRAMES, max_size=20), points=st.lists(st.integers(0), max_size=30))
def test_any_frames_in_any_pieces(frames: list[Frame], points: list[int]) -> None:
    stream = b"".join(encode_frame(*frame) for frame in frames)
    assert feed_pieces(cut(stream, points)) == frames


@given(frames=st.lists(FRAMES, max_size=5), counts=st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_keep_alives_are_left_out_wherever_they_are(frames: list[Frame], counts: list[int]) -> None:
    stream = KEEP_ALIVE * counts[0]
    for frame, count in zip(frames, counts[1:], strict=False):
        stream += encode_frame(*frame) + KEEP_ALIVE * count
    assert feed_pieces([stream]) == frames


def test_large_frame_in_segments_among_small_ones() -> None:
    small = (1, 7, b"request")
    large = (2, 9, bytes(range(256)) * 4096)
    stream = b"".join(encode_frame(*frame) for frame in (small, large, small, large, small))
    assert feed_pieces([stream[i : i + 65536] for i in range(0, len(stream), 65536)]) == [
        *(small, large, small, large, small)
    ]


def test_frame_of_exactly_the_limit_is_taken() -> None:
    frame = (1, 9, bytes(MAX_FRAME_BYTES - 1))
    assert feed_pieces([encode_frame(*frame)]) == [frame]


def test_frame_over_the_limit_is_refused_by_its_length_alone() -> None:
    reader = FrameReader()
    assert "8388609 bytes" in violation(feed, reader, varint.encode(MAX_FRAME_BYTES + 1))


def test_nine_mebibyte_frame_is_refused_by_its_length_alone() -> None:
    reader = FrameReader()
    assert "9437184 bytes" in violation(feed, reader, varint.encode(9 * 1024 * 1024))


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_endless_length_is_refused_within_ten_bytes(size: int) -> None:
    pieces = [b"\xff" * size] * -(-10 // size)
    assert "length is no number" in violation(feed_pieces, pieces)


def test_header_longer_than_its_frame_is_refused() -> None:
    assert "channel and type" in violation(feed, FrameReader(), b"\x02\xff\xff\x01")


def test_endless_header_is_refused() -> None:
    assert "channel and type" in violation(feed, FrameReader(), varint.encode(100) + b"\xff" * 100)


def test_announced_bytes_are_not_reserved_before_they_come() -> None:
    reader = FrameReader()
    feed(reader, varint.encode(MAX_FRAME_BYTES))
    assert len(reader._buffer) < 10_000


def test_no_more_is_held_than_the_incomplete_frame() -> None:
    reader = FrameReader()
    feed(reader, encode_frame(1, 9, bytes(100_000)) + encode_frame(1, 9, bytes(50))[:20])
    assert reader.buffered == 20


def test_buffer_of_a_large_frame_is_given_back() -> None:
    reader = FrameReader()
    feed(reader, encode_frame(1, 9, bytes(4_000_000)))
    feed(reader, encode_frame(1, 9, bytes(10)))
    assert len(reader._buffer) < 10_000


def test_each_byte_of_a_large_frame_is_moved_a_bounded_number_of_times() -> None:
    reader = FrameReader()
    moved = 0
    make_room = FrameReader._make_room

    class Counting(FrameReader):
        __slots__ = ()

        def _make_room(self, held: int, size: int) -> None:
            nonlocal moved
            moved += held
            make_room(self, held, size)

    reader = Counting()
    stream = encode_frame(1, 9, bytes(2_000_000)) * 2
    for begin in range(0, len(stream), 1000):
        feed(reader, stream[begin : begin + 1000])
    assert moved < 2 * len(stream)


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_garbage_is_frames_or_a_violation(pieces: list[bytes]) -> None:
    with contextlib.suppress(PeerMisbehaved):
        assert all(frame[1] < 16 for frame in feed_pieces(pieces))


def test_large_frames_are_looked_at_several_at_once_and_smaller_ones_are_not() -> None:
    taken = []
    for size in (40_000, 20_000):
        reader = FrameReader()
        sent = encode_frame(1, 9, bytes(size)) * 6
        reader.space(len(sent))[:] = sent
        taken.append(len(list(reader.frames(256))))
    assert taken == [6, 2]


def test_a_large_buffer_is_given_back_once_little_comes() -> None:
    reader = FrameReader()
    feed(reader, encode_frame(1, 9, bytes(300_000)))
    assert reader.capacity > 300_000
    feed(reader, KEEP_ALIVE)
    assert reader.capacity < 10_000
