"""Varints: the shortest encoding, any split of it, and refusal of what is endless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import varint
from hyperfs.errors import EncodingError

VALUES = st.integers(min_value=0, max_value=2**64 - 1)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (2**32, "8080808010"),
        (2**64 - 1, "ffffffffffffffffff01"),
    ],
)
def test_known_encodings(value: int, encoded: str) -> None:
    assert varint.encode(value).hex() == encoded


@given(VALUES, st.binary(max_size=5), st.binary(max_size=5))
def test_decodes_what_it_encoded_wherever_it_stands(value: int, before: bytes, after: bytes) -> None:
    encoded = varint.encode(value)
    assert varint.decode(before + encoded + after, len(before)) == (value, len(before) + len(encoded))


@given(VALUES)
def test_every_shorter_piece_asks_for_more(value: int) -> None:
    encoded = varint.encode(value)
    assert [varint.decode_partial(encoded[:size]) for size in range(len(encoded))] == [None] * len(encoded)


@given(VALUES)
def test_a_varint_cut_short_is_an_encoding_error(value: int) -> None:
    with pytest.raises(EncodingError, match="cut short"):
        varint.decode(varint.encode(value)[:-1])


@pytest.mark.parametrize("size", [10, 11, 1000])
def test_an_endless_varint_is_refused(size: int) -> None:
    with pytest.raises(EncodingError, match="longer than 10 bytes"):
        varint.decode_partial(b"\x80" * size)


def test_more_than_64_bits_are_refused() -> None:
    with pytest.raises(EncodingError, match="exceeds 64 bits"):
        varint.decode(b"\xff" * 9 + b"\x02")


@pytest.mark.parametrize("value", [-1, 2**64])
def test_only_64_bits_are_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="varint cannot"):
        varint.encode(value)


@given(st.binary(max_size=12))
def test_random_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        decoded = varint.decode_partial(data)
    except EncodingError:
        return
    assert decoded is None or (0 <= decoded[0] < 2**64 and decoded[1] <= len(data))
