"""The run-length encoding of bitfields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs import rle
from hyperfs.errors import EncodingError
from tests.support import vectors

CASES = vectors.load("crypto")["bitfieldRle"]
RUNS = st.lists(st.sampled_from([b"\x00", b"\xff", b"\x00" * 9, b"\xff" * 300, b"\x01", b"ab"])).map(b"".join)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_encoding_is_the_references(case: dict[str, str]) -> None:
    assert rle.encode(bytes.fromhex(case["raw"])).hex() == case["encoded"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_decoding_pads_as_the_reference_does(case: dict[str, str]) -> None:
    raw = bytes.fromhex(case["raw"]).rstrip(b"\x00")
    expected = raw.ljust(int(case["alignedLength4"]), b"\x00")
    assert rle.decode(bytes.fromhex(case["encoded"]), limit=1 << 20) == expected


@given(st.binary() | RUNS)
def test_what_was_encoded_is_decoded(raw: bytes) -> None:
    assert rle.decode(rle.encode(raw), limit=len(raw)).rstrip(b"\x00") == raw.rstrip(b"\x00")


@given(st.binary(max_size=40))
def test_any_bytes_decode_within_the_limit_or_are_refused(data: bytes) -> None:
    try:
        decoded = rle.decode(data, limit=64)
    except EncodingError:
        return
    assert len(decoded) <= 64


def test_a_bitfield_over_the_limit_is_refused() -> None:
    with pytest.raises(EncodingError, match="were asked for"):
        rle.decode(rle.encode(b"\xff" * 100), limit=99)


def test_raw_bytes_cut_short_are_refused() -> None:
    with pytest.raises(EncodingError, match="cut short"):
        rle.decode(b"\x08ab", limit=100)


def test_a_run_of_nothing_is_refused_at_once() -> None:
    with pytest.raises(EncodingError, match="run of no bytes at byte 1"):
        rle.decode(b"\x01" * (8 << 20), limit=1 << 17)


@pytest.mark.parametrize("pattern", [b"\x00\x00\xff\xff", b"\x00\xff", b"\x00\x00\x01", bytes(range(256))])
def test_bits_that_hardly_ever_repeat_are_encoded_in_few_runs(pattern: bytes) -> None:
    bits = b"\xff" * 100 + pattern * ((1 << 16) // len(pattern)) + b"\xff" * 1000
    encoded = rle.encode(bits)
    assert len(encoded) < 1 << 17
    assert rle.decode(encoded, limit=len(bits) + 4).rstrip(b"\x00") == bits
