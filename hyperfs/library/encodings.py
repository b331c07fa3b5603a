"""Value encodings: how a program's values become the bytes of blocks, and these values again.

The rule: an encoding is an object with ``encode`` and ``decode``; the names that the field knows stand for three such.
"""

import json
from typing import Any, Protocol

from hyperfs.errors import EncodingError, UsageError


class ValueEncoding(Protocol):
    """Makes bytes of values and values of bytes. What `decode` raises reaches whoever asked for the value."""

    def encode(self, value: Any, /) -> bytes:
        """Return the block that stands for ``value``."""
        ...

    def decode(self, block: bytes, /) -> Any:
        """Return the value that ``block`` stands for."""
        ...


class Binary:
    """Blocks as they are; text is taken for its UTF-8, as in the reference."""

    def encode(self, value: Any, /) -> bytes:
        """See `ValueEncoding.encode`. Raises TypeError for what is neither bytes nor text."""
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise TypeError(f"a block is made of bytes, not of {type(value).__name__}: choose a value_encoding")

    def decode(self, block: bytes, /) -> bytes:
        """See `ValueEncoding.decode`."""
        return block


class Utf8(Binary):
    """Text."""

    def decode(self, block: bytes, /) -> str:  # type: ignore[override]  # text, where the other has bytes
        """See `ValueEncoding.decode`. Raises `EncodingError`."""
        try:
            return block.decode()
        except UnicodeDecodeError as error:
            raise EncodingError(f"a block is not UTF-8: {error}") from error


class Json:
    """JSON with a newline behind it, so that the ``data`` file of a core is one of lines, as in the reference."""

    def encode(self, value: Any, /) -> bytes:
        """See `ValueEncoding.encode`. Raises TypeError and ValueError for what is not JSON."""
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"

    def decode(self, block: bytes, /) -> Any:
        """See `ValueEncoding.decode`. Raises `EncodingError`."""
        try:
            return json.loads(block)
        except ValueError as error:
            raise EncodingError(f"a block is not JSON: {error}") from error


_NAMED: dict[str, ValueEncoding] = {"binary": Binary(), "utf-8": Utf8(), "utf8": Utf8(), "json": Json()}


def encoding_of(encoding: str | ValueEncoding) -> ValueEncoding:
    """Return what ``binary``, ``utf-8`` or ``json`` stands for, or the object itself. Raises `UsageError`."""
    if not isinstance(encoding, str):
        return encoding
    found = _NAMED.get(encoding)
    if found is None:
        raise UsageError(f"{encoding!r} is no value encoding: there are binary, utf-8 and json, or pass an object")
    return found
