"""The handshake: Noise_XX_25519_ChaChaPoly_BLAKE2b (noiseprotocol.org, revision 34).

-> e; <- e, ee, s, es; -> s, se. Both sides end with the same two keys, know each other's static key, and know that
nobody in between has changed a byte.

Messages are written and read in their order, each once; anything in a received one that does not fit, a failed
authentication above all, raises `PeerMisbehaved`, after which the handshake is of no more use.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

import nacl.bindings
import nacl.exceptions

from hyperfs.errors import PeerMisbehaved

PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_BLAKE2b"
KEY_BYTES = 32
TAG_BYTES = 16
MAX_MESSAGE_BYTES = 65535


@dataclass(frozen=True, slots=True)
class NoiseKeyPair:
    """An X25519 key pair, 32 bytes each."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> "NoiseKeyPair":
        """Return a new random key pair."""
        return cls.of_secret(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def of_secret(cls, secret: bytes) -> "NoiseKeyPair":
        """Return the key pair of a 32-byte secret key."""
        return cls(nacl.bindings.crypto_scalarmult_base(secret), secret)


@dataclass(frozen=True, slots=True)
class Split:
    """What a handshake leaves behind: the 32-byte keys to send and receive with, and who the other side is."""

    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    remote_static_key: bytes
    handshake_hash: bytes


class _SymmetricState:
    """Noise's SymmetricState with its CipherState: the hash of all so far, and the keys made of it."""

    def __init__(self, prologue: bytes) -> None:
        self.hash = PROTOCOL_NAME.ljust(64, b"\x00")
        self._chaining_key = self.hash
        self._key: bytes | None = None
        self._nonce = 0
        self.mix_hash(prologue)

    @property
    def has_key(self) -> bool:
        return self._key is not None

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.blake2b(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._key = key[:KEY_BYTES]
        self._nonce = 0

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        sealed = plain
        if self._key is not None:
            sealed = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt(
                plain, self.hash, self._take_nonce(), self._key
            )
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        plain = sealed
        if self._key is not None:
            if len(sealed) < TAG_BYTES:
                raise PeerMisbehaved("sent a handshake message that is too short")
            try:
                plain = nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt(
                    sealed, self.hash, self._take_nonce(), self._key
                )
            except nacl.exceptions.CryptoError as error:
                raise PeerMisbehaved("sent a handshake message that does not authenticate") from error
        self.mix_hash(sealed)
        return plain

    def split(self) -> tuple[bytes, bytes]:
        first, second = _hkdf(self._chaining_key, b"")
        return first[:KEY_BYTES], second[:KEY_BYTES]

    def _take_nonce(self) -> bytes:
        nonce = bytes(4) + self._nonce.to_bytes(8, "little")
        self._nonce += 1
        return nonce


class NoiseXX:
    """One side of one handshake. The initiator writes first; then both take turns, three messages in all."""

    def __init__(
        self,
        *,
        initiator: bool,
        static: NoiseKeyPair,
        ephemeral: NoiseKeyPair | None = None,
        prologue: bytes = b"",
    ) -> None:
        """Begin. ``ephemeral`` is for tests with known keys; otherwise a new one is made."""
        self._initiator = initiator
        self._static = static
        self._ephemeral = ephemeral or NoiseKeyPair.generate()
        self._symmetric = _SymmetricState(prologue)
        self._remote_ephemeral = b""
        self._remote_static = b""
        self._step = 0

    @property
    def is_done(self) -> bool:
        """Whether all three messages went over."""
        return self._step == 3

    @property
    def is_writing(self) -> bool:
        """Whether the next message is ours to write."""
        return not self.is_done and (self._step % 2 == 0) is self._initiator

    def write_message(self, payload: bytes) -> bytes:
        """Return our next message, around ``payload``. RuntimeError if it is not our turn."""
        if not self.is_writing:
            raise RuntimeError("it is not our turn in the handshake")
        symmetric = self._symmetric
        message = b""
        if self._step < 2:
            message = self._ephemeral.public
            symmetric.mix_hash(message)
        if self._step == 1:
            self._mix("ee")
        if self._step > 0:
            message += symmetric.encrypt_and_hash(self._static.public)
            self._mix("es" if self._step == 1 else "se")
        self._step += 1
        message += symmetric.encrypt_and_hash(payload)
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a handshake message has {len(message)} bytes, more than {MAX_MESSAGE_BYTES}")
        return message

    def read_message(self, message: bytes) -> bytes:
        """Return the payload of the peer's next message. RuntimeError if it is not the peer's turn."""
        if self.is_done or self.is_writing:
            raise RuntimeError("it is not the peer's turn in the handshake")
        symmetric = self._symmetric
        if self._step < 2:
            self._remote_ephemeral, message = _cut(message, KEY_BYTES)
            symmetric.mix_hash(self._remote_ephemeral)
        if self._step == 1:
            self._mix("ee")
        if self._step > 0:
            sealed, message = _cut(message, KEY_BYTES + TAG_BYTES)
            self._remote_static = symmetric.decrypt_and_hash(sealed)
            self._mix("es" if self._step == 1 else "se")
        self._step += 1
        return symmetric.decrypt_and_hash(message)

    def split(self) -> Split:
        """Return the result. RuntimeError before all three messages went over."""
        if not self.is_done:
            raise RuntimeError("the handshake is not done")
        first, second = self._symmetric.split()
        send_key, receive_key = (first, second) if self._initiator else (second, first)
        return Split(send_key, receive_key, self._remote_static, self._symmetric.hash)

    def _mix(self, token: str) -> None:
        """Mix in a shared secret: of the initiator's key of the first letter, the responder's of the second."""
        ours, theirs = (token[0], token[1]) if self._initiator else (token[1], token[0])
        secret = (self._ephemeral if ours == "e" else self._static).secret
        public = self._remote_ephemeral if theirs == "e" else self._remote_static
        try:
            shared = nacl.bindings.crypto_scalarmult(secret, public)
        except nacl.exceptions.RuntimeError as error:
            raise PeerMisbehaved(f"sent the weak key {public.hex()} in its handshake") from error
        self._symmetric.mix_key(shared)


def _cut(message: bytes, size: int) -> tuple[bytes, bytes]:
    if len(message) < size:
        raise PeerMisbehaved("sent a handshake message that is too short")
    return message[:size], message[size:]


def _hkdf(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    temporary = _hmac(chaining_key, secret)
    first = _hmac(temporary, b"\x01")
    return first, _hmac(temporary, first + b"\x02")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.blake2b)
