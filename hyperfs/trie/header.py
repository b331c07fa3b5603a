"""Block 0 of a trie: what kind of thing the core holds.

A header is believed only as far as its type goes; what `metadata` means is the subtype's business.
"""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from hyperfs.errors import EncodingError
from hyperfs.trie import messages_pb2

TRIE_TYPE = "hypertrie"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a trie; for a drive, ``metadata`` is the content core's public key and ``subtype`` `hyperdrive`."""

    metadata: bytes | None = None
    subtype: str | None = None
    type: str = TRIE_TYPE

    def encode(self) -> bytes:
        """Return the bytes of block 0."""
        message = messages_pb2.Header(type=self.type.encode())
        if self.metadata is not None:
            message.metadata = self.metadata
        if self.subtype is not None:
            message.subtype = self.subtype.encode()
        return message.SerializeToString()

    @classmethod
    def decode(cls, block: bytes) -> "Header":
        """Return the header in block 0; raise `EncodingError` when it is none."""
        try:
            message = messages_pb2.Header.FromString(block)
        except DecodeError as error:
            raise EncodingError("block 0 is not a header") from error
        if not message.HasField("type"):
            raise EncodingError("block 0 is not a header: it has no type")
        return cls(
            metadata=message.metadata if message.HasField("metadata") else None,
            subtype=message.subtype.decode("utf-8", "replace") if message.HasField("subtype") else None,
            type=message.type.decode("utf-8", "replace"),
        )
