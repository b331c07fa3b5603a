"""What is to be written to the peer, in order.

Bytes are encrypted exactly once, when they are taken, and in the order in which they were written, since the cipher is
one long stream. As much as possible goes through it in one call.
"""

from hyperfs.protocol.cipher import Cipher


class Output:
    """A connection's queue of plain frames, behind the handshake's bytes, which go out as they are."""

    __slots__ = ("_cipher", "_handshake", "_is_over", "_parts", "size")

    def __init__(self) -> None:
        self._handshake = bytearray()
        self._parts: list[bytes] = []
        self._cipher: Cipher | None = None
        self._is_over = False
        self.size = 0
        """Bytes written and not taken yet."""

    def write_handshake(self, data: bytes) -> None:
        """Queue bytes that go out unencrypted, before everything else."""
        self._handshake += data
        self.size += len(data)

    def encrypt_with(self, cipher: Cipher) -> None:
        """Set the cipher for all that is written; before that nothing but the handshake is taken."""
        self._cipher = cipher

    def write(self, data: bytes) -> None:
        """Queue bytes of a frame. They are not copied, and must not change until they are taken."""
        if not self._is_over:
            self._parts.append(data)
            self.size += len(data)

    def take(self) -> bytearray:
        """Return all that may go out now, ready for the socket, and forget it."""
        taken = self._handshake
        self._handshake = bytearray()
        if self._cipher is not None and self._parts:
            sealed = bytearray().join(self._parts)
            self._parts.clear()
            self._cipher.apply(sealed)
            taken = taken + sealed if taken else sealed
        self.size -= len(taken)
        return taken

    def end(self) -> None:
        """Forget all that is queued, and all that will be: the connection is over."""
        self._is_over = True
        self._handshake.clear()
        self._parts.clear()
        self.size = 0
