"""Datagrams of the reference are read as it meant them, ours say the same, and nothing else is believed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.swarm.addresses import Address, decode_addresses
from hyperfs.swarm.dht import messages_pb2
from hyperfs.swarm.dht.datagrams import (
    MAX_DATAGRAM_BYTES,
    Datagram,
    Holepunch,
    Kind,
    Mutable,
    NodeAddress,
    PeersInput,
    PeersOutput,
    decode,
    decode_nodes,
    encode,
    encode_nodes,
)
from tests.support.vectors import load


def recorded() -> list[Any]:
    """Return every datagram of the DHT that was recorded of the reference."""
    sections = load("swarm")["sections"].values()
    return [datagram for section in sections for datagram in section["datagrams"] if "dns" not in datagram]


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host, int(port))


def optional_hex(datagram: Any, name: str) -> bytes | None:
    return bytes.fromhex(datagram[name]) if name in datagram else None


@pytest.mark.parametrize("datagram", recorded(), ids=lambda datagram: f"{datagram['type']}-{datagram['rid']}")
def test_what_the_reference_sent_is_read_as_it_meant_it(datagram: Any) -> None:
    found = decode(bytes.fromhex(datagram["hex"]))
    nodes = [text.split(" ") for text in datagram.get("closerNodes", [])]
    assert found == Datagram(
        kind=Kind[datagram["type"]],
        rid=datagram["rid"],
        id=optional_hex(datagram, "id"),
        target=optional_hex(datagram, "target"),
        closer=encode_nodes(NodeAddress(bytes.fromhex(id), address(where)) for id, where in nodes),
        token=optional_hex(datagram, "roundtripToken"),
        command=datagram.get("command"),
        error=datagram.get("error"),
        value=optional_hex(datagram, "value"),
        to=address(datagram["addressed"]) if "addressed" in datagram else None,
    )


@pytest.mark.parametrize("datagram", recorded(), ids=lambda datagram: f"{datagram['type']}-{datagram['rid']}")
def test_what_we_send_says_the_same(datagram: Any) -> None:
    theirs = bytes.fromhex(datagram["hex"])
    found = decode(theirs)
    assert found is not None
    parsed, ours = messages_pb2.Message(), messages_pb2.Message()
    parsed.ParseFromString(theirs)
    ours.ParseFromString(encode(found))
    for name in ("closerNodes", "error"):  # the reference writes empty ones, too
        if not getattr(parsed, name):
            parsed.ClearField(name)
    assert ours == parsed


def test_an_id_of_another_size_makes_a_datagram_invalid() -> None:
    message = messages_pb2.Message(type=messages_pb2.Message.QUERY, rid=1, id=bytes(31), version=1)
    assert decode(message.SerializeToString()) is None


@pytest.mark.parametrize("version", [None, 0])
def test_an_id_without_a_version_counts_as_none(version: int | None) -> None:
    message = messages_pb2.Message(type=messages_pb2.Message.QUERY, rid=1, id=bytes(32))
    if version is not None:
        message.version = version
    found = decode(message.SerializeToString())
    assert found is not None
    assert found.id is None


def test_a_list_of_nodes_with_a_hole_in_it_counts_as_none() -> None:
    node = bytes(32) + bytes([10, 0, 0, 1, 1, 1])
    hole = bytes(32) + bytes([10, 0, 0, 1, 0, 0])
    message = messages_pb2.Message(type=messages_pb2.Message.RESPONSE, rid=1, version=1, closerNodes=node + hole)
    found = decode(message.SerializeToString())
    assert found is not None
    assert decode_nodes(found.closer) == ()


def test_a_list_of_peers_with_a_hole_in_it_counts_as_none() -> None:
    assert decode_addresses(bytes([10, 0, 0, 1, 1, 1, 10, 0, 0, 2, 0, 0]), 128) == []


def test_a_list_of_peers_is_cut_at_what_was_asked() -> None:
    assert decode_addresses(bytes([10, 0, 0, 1, 1, 1]) * 200, 128) == [Address("10.0.0.1", 257)] * 128


def test_what_is_longer_than_any_datagram_is_not_looked_at() -> None:
    message = messages_pb2.Message(type=messages_pb2.Message.QUERY, rid=1, value=bytes(MAX_DATAGRAM_BYTES))
    assert decode(message.SerializeToString()) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_a_datagram_or_none(data: bytes) -> None:
    found = decode(data)
    if found is not None:
        assert decode(encode(found)) == found
    assert encode_nodes(decode_nodes(data)) in (data, b"")
    for parser in (Holepunch.decode, PeersInput.decode, PeersOutput.decode, Mutable.decode):
        parser(data)


@given(st.sampled_from(recorded()), st.integers(0, 2000), st.integers(0, 255), st.booleans())
def test_a_bent_datagram_is_a_datagram_or_none(datagram: Any, at: int, byte: int, cut: bool) -> None:
    data = bytearray.fromhex(datagram["hex"])
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] = byte
    found = decode(bytes(data))
    if found is not None:
        assert decode(encode(found)) == found
        assert encode_nodes(decode_nodes(found.closer)) in (found.closer, b"")
