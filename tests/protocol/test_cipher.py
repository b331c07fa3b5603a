"""XSalsa20: the reference's streams, and one stream however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.protocol.cipher import XSalsa20, hsalsa20
from tests.support import vectors


def apply(cipher: XSalsa20, data: bytes) -> bytes:
    output = bytearray(data)
    cipher.apply(output)
    return bytes(output)


def test_subkey_of_the_paper() -> None:
    # "Extending the Salsa20 nonce", section "Test vectors": the second subkey of a NaCl box.
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d6")
    assert hsalsa20(key, nonce).hex() == "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"


def test_stream_is_the_reference_s() -> None:
    vector = vectors.load("handshake")
    key = bytes.fromhex(vector["initiatorSplit"]["tx"])[:32]
    cipher = XSalsa20(key, bytes.fromhex(vector["nonceInitiator"]))
    pieces = vector["initiatorToResponder"]
    assert [apply(cipher, bytes.fromhex(piece["plain"])).hex() for piece in pieces] == [
        piece["cipher"] for piece in pieces
    ]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_cuts_do_not_change_the_stream(pieces: list[bytes]) -> None:
    cut = XSalsa20(bytes(32), bytes(24))
    whole = XSalsa20(bytes(32), bytes(24))
    assert b"".join(apply(cut, piece) for piece in pieces) == apply(whole, b"".join(pieces))


def test_nothing_beside_the_given_part_changes() -> None:
    data = bytearray(300)
    cipher = XSalsa20(bytes(32), bytes(24))
    apply(cipher, bytes(10))
    cipher.apply(memoryview(data)[100:200])
    assert (data[:100], data[200:]) == (bytes(100), bytes(100))


def test_what_stands_in_the_middle_of_a_buffer_is_encrypted_as_elsewhere() -> None:
    data = bytearray(300)
    XSalsa20(bytes(32), bytes(24)).apply(memoryview(data)[100:200])
    assert data[100:200] == apply(XSalsa20(bytes(32), bytes(24)), bytes(100))


@pytest.mark.parametrize(("key", "nonce"), [(31, 24), (32, 8)])
def test_wrong_sizes_are_a_mistake(key: int, nonce: int) -> None:
    with pytest.raises(ValueError, match="XSalsa20 takes"):
        XSalsa20(bytes(key), bytes(nonce))
