"""Stats and mount records, byte for byte as the reference writes them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.drive.stat import (
    MAX_STAT_BYTES,
    MountTarget,
    Stat,
    decode_mount_record,
    decode_stat,
    encode_mount_record,
    encode_stat,
)
from hyperfs.errors import EncodingError
from hyperfs.trie.node import decode
from hyperfs.trie.paths import Hashing
from tests.support import vectors


def nodes_of_the_vectors() -> list[tuple[str, bytes]]:
    hashing = Hashing()
    blocks = vectors.load("drive")["metadataBlocks"][1:]
    found = [decode(bytes.fromhex(block), seq, hashing) for seq, block in enumerate(blocks, 1)]
    return [(("hidden " if node.hidden else "") + f"{node.seq} {node.key}", node.value or b"") for node in found]


@pytest.mark.parametrize(
    "value", [pytest.param(value, id=name) for name, value in nodes_of_the_vectors() if not name.startswith("hidden")]
)
def test_a_stat_of_the_reference_is_encoded_as_it_was(value: bytes) -> None:
    assert encode_stat(decode_stat(value)) == value


def test_the_mount_record_of_the_reference_is_encoded_as_it_was() -> None:
    value = next(value for name, value in nodes_of_the_vectors() if name == "hidden 11 mounts/sub/mount")
    assert encode_mount_record("sub/mount", decode_mount_record(value)) == value


def test_a_removed_attribute_stays_as_a_name() -> None:
    stat = Stat(0o100644, attributes={"user.b": b"1", "user.a": None})
    decoded = decode_stat(encode_stat(stat))
    assert list(decoded.attributes.items()) == [("user.b", b"1"), ("user.a", None)]


def test_a_removed_attribute_is_not_present() -> None:
    assert Stat(0o100644, attributes={"a": b"", "b": None}).present_attributes == {"a": b""}


def test_an_empty_attribute_is_not_a_removed_one() -> None:
    assert decode_stat(encode_stat(Stat(0, attributes={"a": b""}))).attributes == {"a": b""}


def test_zeros_are_written() -> None:
    assert encode_stat(Stat(0)).hex() == "0800100018002000280030003800" + "40004800"


def test_a_link_to_what_is_not_utf8_is_kept() -> None:
    stat = Stat(0o120777, linkname=b"\xff/x".decode(errors="surrogateescape"))
    assert decode_stat(encode_stat(stat)) == stat


def test_mount_version_zero_is_live() -> None:
    assert decode_mount_record(encode_mount_record("a", MountTarget(b"k" * 32, version=0))).version is None


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"\x08"])
def test_what_is_no_stat_is_refused(value: bytes | None) -> None:
    with pytest.raises(EncodingError):
        decode_stat(value)


@pytest.mark.parametrize("field", [{"size": 1 << 63}, {"byte_offset": 1 << 63}, {"blocks": 1 << 62, "offset": 1 << 62}])
def test_a_stat_that_claims_more_than_there_can_be_is_refused(field: dict[str, int]) -> None:
    with pytest.raises(EncodingError, match="claims"):
        decode_stat(encode_stat(Stat(0o100644, **field)))


@pytest.mark.parametrize("value", [None, b"", b"\x0a\x01k\x12\x01a"])
def test_what_is_no_mount_record_is_refused(value: bytes | None) -> None:
    with pytest.raises(EncodingError):
        decode_mount_record(value)


@given(
    st.builds(
        Stat,
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 1 << 53),
        st.integers(0, 1 << 53),
        st.integers(0, 1 << 53),
        st.integers(0, 1 << 53),
        st.integers(0, 1 << 53),
        st.integers(0, 1 << 53),
        st.none() | st.text(),
        st.none()
        | st.builds(
            MountTarget,
            st.binary(min_size=32, max_size=32),
            st.none() | st.integers(0, 1 << 53),
            st.none() | st.binary(),
            st.booleans(),
        ),
        st.dictionaries(st.text(), st.none() | st.binary()),
    )
)
def test_decoding_undoes_encoding(stat: Stat) -> None:
    assert decode_stat(encode_stat(stat)) == stat


@given(st.binary())
def test_random_bytes_are_a_stat_or_an_encoding_error(data: bytes) -> None:
    with contextlib.suppress(EncodingError):
        decode_stat(data)


def test_a_stat_larger_than_any_entry_is_none() -> None:
    large = Stat(0o100644, attributes={"user.x": bytes(MAX_STAT_BYTES)})
    with pytest.raises(EncodingError, match="1048576 are allowed"):
        decode_stat(encode_stat(large))
    fitting = Stat(0o100644, attributes={"user.x": bytes(MAX_STAT_BYTES // 2)})
    assert decode_stat(encode_stat(fitting)) == fitting


def test_a_mount_of_what_is_no_key_is_none() -> None:
    with pytest.raises(EncodingError, match="a key of 5 bytes"):
        decode_stat(encode_stat(Stat(0o100644, mount=MountTarget(b"short", is_core=True))))
