"""The handshake: the published vectors of its pattern, the reference's, and what a hostile side can send in it."""

from dataclasses import dataclass

import nacl.bindings
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.errors import PeerMisbehaved
from hyperfs.protocol.noise import NoiseKeyPair, NoiseXX, Split
from tests.support import vectors


@dataclass(frozen=True, slots=True)
class Published:
    """A published vector: both sides' secret keys, and (payload, message) in the order in which they are sent."""

    name: str
    prologue: str
    initiator_static: str
    initiator_ephemeral: str
    responder_static: str
    responder_ephemeral: str
    handshake_hash: str | None
    messages: tuple[tuple[str, str], ...]


# The figures for Noise_XX_25519_ChaChaPoly_BLAKE2b among the test vectors that the Noise implementations cacophony
# and snow publish.
PUBLISHED = (
    Published(
        "cacophony",
        prologue="4a6f686e2047616c74",
        initiator_static="e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        initiator_ephemeral="893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        responder_static="4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        responder_ephemeral="bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        handshake_hash=(
            "8cf47d7b3cb5804c0109d48e8bcdbee2cbb65687d8ea2c92994ca361fb86151ad93627b98936cbb32de56e8abb21def3"
            "925011ac3e35db9cbeea73ab9a4392c2"
        ),
        messages=(
            (
                "4c756477696720766f6e204d69736573",
                ("ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477696720766f6e204d69736573"),
            ),
            (
                "4d757272617920526f746862617264",
                (
                    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088430505b6745ce64a5f33f0e8e3b83f11ce"
                    "8802bca507f4f2d8b564dbe277e1966116e132faa2dfd70b8b077b9f94b913df5056ae1319469b824a98d54bbaa82c32"
                    "5595587064f978c4b6d104f7596e6f"
                ),
            ),
            (
                "462e20412e20486179656b",
                (
                    "99579e1c1ee15e422a57ddd6b16d37087b17558e8369c18991b4b2ca3a824abf904cdcf5458b5431a75af034ca9e9b98"
                    "2de039eaaf156775e2d580cd4e5ebae89c3f8cb2594b556d8a8169"
                ),
            ),
            ("4361726c204d656e676572", "fc56eea290b3f3a21aac0c70cd5787b5ee99be37d2f4d751329b55"),
            (
                "4a65616e2d426170746973746520536179",
                "bb31c9da10d5639a4cdb88a12f5c61de41bbc7df09bf75d94f8184fe4157f5c68f",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                "f6199cadb152fb27f82be0a0891ec76a33598ae92a46cab2fb5a8ed5bf48b7f267f8370af7",
            ),
        ),
    ),
    Published(
        "snow",
        prologue=(
            "5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773206f6e6c792066756e20616e"
            "6420626f72696e672e"
        ),
        initiator_static="842752777821bd4c9a6a84c777cb9028ba2446c864e035c8d380632dca3a7702",
        initiator_ephemeral="5dfce6be0b767fc60a51e1d627711c67d63e97115cb3957a64a66919747ea47c",
        responder_static="8885e7006b27a44bec4a6e7bfcc37032a3564a73bf9588585bd1166829d80d8a",
        responder_ephemeral="9c012e056ed37994a4bfb09f57a7505bf44c07e9784c3c2bcefd8880b2d85e21",
        handshake_hash=None,
        messages=(
            (
                "bcb708376354e0dc837fc3f7e0e9c8c59849fd907a129a3c0afde64e79d1ac09",
                (
                    "50a7da541baa50d563e3fd3526f53e9b7e4af8083a4180b5d1f8cd49fbe30518bcb708376354e0dc837fc3f7e0e9c8c5"
                    "9849fd907a129a3c0afde64e79d1ac09"
                ),
            ),
            (
                "77783888d07aa30dfeccf96d8da0a293546232bc8a460b5fbca479e3da54d3b2",
                (
                    "6b0ae570deada82b6f3071c87bd361014c34f8d15fee49ed0078f38a9c05bb703c2eb46ccc2734a9c07555b85d6f0b5a"
                    "e29f24aaa2c351d815acd2e1de7770344339d0d854daf5a4468b189caf7ff643d6c5645e9e7fd5edcad6755ea0a01f51"
                    "f552650ab99b7a0eba09f64b9dc0737f5756688682897c0912890a6ec56d72f8"
                ),
            ),
            (
                "420d0154f4e26a4224c201f3ecceddc06eb8896b78386978fb25b21dd276c6fb",
                (
                    "386d9e2549dcb9a016db7e05f45c19d2c4fd4e7a61d1c06dbd01d21012d448b34761826aa7b3fc8d0c5cc73d487c1f19"
                    "ac29de837b4ccd361603f03d12f8971ae0534fbd8096fd5bc2c7bdc77026207623514afa5804d07a3b0c316f9e5a9c12"
                ),
            ),
            (
                "58f929d4d8eda457fb01b3a09bb6391aac0d93477df9e3042355741747744571",
                ("c81ba3d22336cd78d64ff9e2161d339db9fd3a5407a3fb594fb7a59d718e83c6054b1002721e63ffb2a2d2d8bfd670bc"),
            ),
            (
                "c86af330a6b59de9d7ead76260204ef7e897a1323bdc0a9c5ea4450556ed0bf6",
                ("1207c87bc8ec9b6d5db3a3d3ed5caab43c98e71492a424b7d7302ea8313d1b0e3644c9b3c479a80cdb3da1e92466b8ac"),
            ),
        ),
    ),
)


def pair(vector: Published) -> tuple[NoiseXX, NoiseXX]:
    def side(static: str, ephemeral: str, *, initiator: bool) -> NoiseXX:
        return NoiseXX(
            initiator=initiator,
            static=NoiseKeyPair.of_secret(bytes.fromhex(static)),
            ephemeral=NoiseKeyPair.of_secret(bytes.fromhex(ephemeral)),
            prologue=bytes.fromhex(vector.prologue),
        )

    return (
        side(vector.initiator_static, vector.initiator_ephemeral, initiator=True),
        side(vector.responder_static, vector.responder_ephemeral, initiator=False),
    )


def exchange(initiator: NoiseXX, responder: NoiseXX, payloads: tuple[bytes, bytes, bytes]) -> tuple[bytes, ...]:
    """Run a handshake; return its messages. Each payload must arrive."""
    messages = []
    writer, reader = initiator, responder
    for payload in payloads:
        message = writer.write_message(payload)
        assert reader.read_message(message) == payload
        messages.append(message)
        writer, reader = reader, writer
    return tuple(messages)


def new_pair() -> tuple[NoiseXX, NoiseXX]:
    return (
        NoiseXX(initiator=True, static=NoiseKeyPair.generate()),
        NoiseXX(initiator=False, static=NoiseKeyPair.generate()),
    )


published = pytest.mark.parametrize("vector", PUBLISHED, ids=lambda vector: vector.name)


@published
def test_published_vector_gives_its_messages(vector: Published) -> None:
    first, second, third = (bytes.fromhex(payload) for payload, _ in vector.messages[:3])
    messages = exchange(*pair(vector), (first, second, third))
    assert [message.hex() for message in messages] == [message for _, message in vector.messages[:3]]


@published
def test_published_vector_gives_its_transport_keys(vector: Published) -> None:
    initiator, responder = pair(vector)
    first, second, third = (bytes.fromhex(payload) for payload, _ in vector.messages[:3])
    exchange(initiator, responder, (first, second, third))
    sent = {id(initiator): 0, id(responder): 0}
    writer, reader = responder, initiator
    for payload, ciphertext in vector.messages[3:]:
        nonce = bytes(4) + sent[id(writer)].to_bytes(8, "little")
        sealed = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt(
            bytes.fromhex(payload), b"", nonce, writer.split().send_key
        )
        assert sealed.hex() == ciphertext
        sent[id(writer)] += 1
        writer, reader = reader, writer


def test_published_handshake_hash() -> None:
    vector = PUBLISHED[0]
    initiator, responder = pair(vector)
    first, second, third = (bytes.fromhex(payload) for payload, _ in vector.messages[:3])
    exchange(initiator, responder, (first, second, third))
    assert [side.split().handshake_hash.hex() for side in (initiator, responder)] == [vector.handshake_hash] * 2


def reference_pair() -> tuple[NoiseXX, NoiseXX]:
    keys = vectors.load("handshake")["keys"]
    secret = {name: NoiseKeyPair.of_secret(bytes.fromhex(key["sk"])) for name, key in keys.items()}
    return (
        NoiseXX(initiator=True, static=secret["is"], ephemeral=secret["ie"]),
        NoiseXX(initiator=False, static=secret["rs"], ephemeral=secret["re"]),
    )


def reference_payloads() -> tuple[bytes, bytes, bytes]:
    first, second, third = (bytes.fromhex(message["payload"]) for message in vectors.load("handshake")["messages"])
    return first, second, third


@pytest.mark.parametrize("name", ["is", "ie", "rs", "re"])
def test_public_key_is_made_as_the_reference_makes_it(name: str) -> None:
    key = vectors.load("handshake")["keys"][name]
    assert NoiseKeyPair.of_secret(bytes.fromhex(key["sk"])).public.hex() == key["pk"]


def test_reference_handshake_gives_its_messages() -> None:
    messages = exchange(*reference_pair(), reference_payloads())
    assert [message.hex() for message in messages] == [
        message["message"] for message in vectors.load("handshake")["messages"]
    ]


@pytest.mark.parametrize("side", [0, 1])
def test_reference_handshake_gives_its_split(side: int) -> None:
    vector = vectors.load("handshake")
    expected = vector[("initiatorSplit", "responderSplit")[side]]
    sides = reference_pair()
    exchange(*sides, reference_payloads())
    assert sides[side].split() == Split(
        bytes.fromhex(expected["tx"])[:32],
        bytes.fromhex(expected["rx"])[:32],
        bytes.fromhex(vector["keys"][("rs", "is")[side]]["pk"]),
        bytes.fromhex(vector["handshakeHash"]),
    )


def test_two_handshakes_of_the_same_keys_have_other_sessions() -> None:
    static = NoiseKeyPair.generate()
    splits = []
    for _ in range(2):
        sides = (NoiseXX(initiator=True, static=static), NoiseXX(initiator=False, static=static))
        exchange(*sides, (b"", b"", b""))
        splits.append(sides[0].split().send_key)
    assert splits[0] != splits[1]


@given(message=st.integers(1, 2), position=st.integers(0), bit=st.integers(0, 7))
def test_any_changed_bit_after_the_first_message_is_refused(message: int, position: int, bit: int) -> None:
    sides = new_pair()
    for step in range(message):
        sides[1 - step % 2].read_message(sides[step % 2].write_message(b"payload"))
    changed = bytearray(sides[message % 2].write_message(b"payload"))
    changed[position % len(changed)] ^= 1 << bit
    with pytest.raises(PeerMisbehaved, match=r"does not authenticate|weak key"):
        sides[1 - message % 2].read_message(bytes(changed))


def test_changed_first_message_is_refused_with_the_second() -> None:
    initiator, responder = new_pair()
    changed = bytearray(initiator.write_message(b"payload"))
    changed[-1] ^= 1
    responder.read_message(bytes(changed))
    with pytest.raises(PeerMisbehaved, match="does not authenticate"):
        initiator.read_message(responder.write_message(b""))


@pytest.mark.parametrize("size", [0, 31])
def test_short_first_message_is_refused(size: int) -> None:
    with pytest.raises(PeerMisbehaved, match="too short"):
        new_pair()[1].read_message(bytes(size))


@pytest.mark.parametrize("size", [0, 31, 32, 79, 80, 95])
def test_short_second_message_is_refused(size: int) -> None:
    initiator, responder = new_pair()
    responder.read_message(initiator.write_message(b""))
    message = responder.write_message(b"")
    with pytest.raises(PeerMisbehaved):
        initiator.read_message(message[:size])


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little")])
def test_key_of_low_order_is_refused(key: bytes) -> None:
    _, responder = new_pair()
    responder.read_message(key)
    with pytest.raises(PeerMisbehaved, match="weak key"):
        responder.write_message(b"")


def test_writing_out_of_turn_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="not our turn"):
        new_pair()[1].write_message(b"")


def test_reading_out_of_turn_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="not the peer's turn"):
        new_pair()[0].read_message(bytes(96))


def test_splitting_early_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="not done"):
        new_pair()[0].split()


def test_payload_too_long_for_a_message_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="65536"):
        new_pair()[0].write_message(bytes(65536 - 32))


def test_secret_keys_stay_out_of_representations() -> None:
    key = NoiseKeyPair.generate()
    assert repr(key.secret) not in repr(key)
