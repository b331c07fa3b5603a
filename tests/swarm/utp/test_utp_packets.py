"""Packets of uTP, byte by byte as libutp has them; whatever else comes is no packet."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.swarm.utp.packets import Packet, PacketType, decode, encode, is_utp

STATE = bytes.fromhex("210001020102030405060708001000000a0b0c0d")

numbers = st.integers(0, (1 << 16) - 1)
long_numbers = st.integers(0, (1 << 32) - 1)
selective = st.integers(0, 8).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words))


def test_a_header_as_it_is_on_the_wire() -> None:
    packet = Packet(PacketType.STATE, 0x0102, 0x01020304, 0x05060708, 1 << 20, 0x0A0B, 0x0C0D)
    assert encode(packet) == STATE
    assert decode(STATE) == packet


def test_a_selective_acknowledgement_as_it_is_on_the_wire() -> None:
    packet = Packet(PacketType.STATE, 1, 2, 3, 4, 5, 6, selective=b"\x05\x00\x00\x80")
    assert encode(packet)[20:] == bytes.fromhex("000405000080")
    assert encode(packet)[1] == 1


def test_extensions_that_nobody_knows_are_passed_over() -> None:
    data = bytes([0x01, 2]) + STATE[2:] + bytes([1, 3]) + b"abc" + bytes([0, 4]) + b"\x01\0\0\0" + b"payload"
    packet = decode(data)
    assert packet is not None
    assert (packet.selective, packet.payload) == (b"\x01\0\0\0", b"payload")


@given(st.sampled_from(PacketType), numbers, long_numbers, long_numbers, long_numbers, numbers, numbers, selective)
def test_what_is_encoded_is_decoded(
    kind: PacketType, connection: int, sent_at: int, delay: int, window: int, sequence: int, ack: int, mask: bytes
) -> None:
    payload = b"some bytes" if kind is PacketType.DATA else b""
    packet = Packet(kind, connection, sent_at, delay, window, sequence, ack, mask, payload)
    assert decode(encode(packet)) == packet


@given(st.binary(max_size=80))
def test_anything_is_decoded_or_refused(data: bytes) -> None:
    for first in (0x01, 0x11, 0x21, 0x31, 0x41):
        decode(bytes([first]) + data)
    packet = decode(data)
    assert packet is None or is_utp(data)


@pytest.mark.parametrize("first", [0x00, 0x02, 0x51, 0x58, 0x08, 0xFF])
def test_other_first_bytes_are_no_packet(first: int) -> None:
    assert decode(bytes([first]) + STATE[1:]) is None


def test_what_is_cut_off_is_no_packet() -> None:
    whole = encode(Packet(PacketType.STATE, 1, 2, 3, 4, 5, 6, selective=bytes(random.Random(1).randbytes(8))))
    for size in range(len(whole)):
        assert decode(whole[:size]) is None
