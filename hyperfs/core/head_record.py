"""The newest head of a core of ours, noted without waiting for the disk: what a process that was killed had appended.

The rule: a record counts only in the boot that wrote it, for then the kernel has every byte that was written before it;
and all that it adds is hashed again, and has to be what its signature says. So a power cut, or a record that is stale,
torn or alone on the disk, leaves what the core's own files say. Nobody else has seen what is beyond these.
"""

import hashlib
import struct
from contextlib import suppress
from dataclasses import dataclass

from hyperfs.storage import Directory, RandomAccessFile

_FIELDS = struct.Struct("<16s32sQ64s")
_CHECK_BYTES = 16
_RECORD_BYTES = _FIELDS.size + _CHECK_BYTES
_NO_KEY = bytes(32)


@dataclass(frozen=True, slots=True)
class RecordedHead:
    """The last head that was appended. ``after`` is the key of the core whose blocks are named in this one, if any."""

    length: int
    signature: bytes
    after: bytes | None


class HeadRecord:
    """The record of one core: the file ``name``, which is made at the first `write`. ``boot`` is `boot_id` now."""

    def __init__(self, directory: Directory, name: str, *, boot: bytes) -> None:
        self.after: bytes | None = None
        """Goes into each record."""
        self._directory = directory
        self._name = name
        self._boot = boot
        self._file: RandomAccessFile | None = None
        self._found = False
        self._standing = bytes(_RECORD_BYTES)
        """What counts of the file, as far as it was read or written."""

    def read(self) -> RecordedHead | None:
        """Return what was recorded in this boot of the machine, if anything."""
        try:
            file = self._directory.open(self._name)
        except FileNotFoundError:
            return None
        try:
            content = file.read(0, _RECORD_BYTES)
        finally:
            file.close()
        fields, check = content[: _FIELDS.size], content[_FIELDS.size :]
        if not fields.startswith(self._boot) or check != _check(fields):
            return None
        self._found, self._standing = True, content
        _, after, length, signature = _FIELDS.unpack(fields)
        return RecordedHead(length, signature, None if after == _NO_KEY else after)

    def write(self, length: int, signature: bytes) -> None:
        """Record a head of which everything was written. Does not wait for the disk.

        Raises OSError: then the head that was recorded before stands.
        """
        file = self._opened()
        fields = _FIELDS.pack(self._boot, self.after or _NO_KEY, length, signature)
        record = fields + _check(fields)
        try:
            file.write(0, record)
        except OSError:
            with suppress(OSError):  # some of it may have been written
                file.write(0, self._standing)
            raise
        self._standing = record

    def clear(self) -> None:
        """Note that there is nothing to tell: all that was recorded is durable. Does not wait for the disk."""
        if self._file is not None or self._found:
            # If it cannot be written, what it tells is true still.
            self._standing = bytes(_RECORD_BYTES)
            with suppress(OSError):
                self._opened().write(0, self._standing)

    def _opened(self) -> RandomAccessFile:
        if self._file is None:
            self._file = self._directory.open(self._name, create=True)
        return self._file

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _check(fields: bytes) -> bytes:
    return hashlib.blake2b(fields, digest_size=_CHECK_BYTES).digest()
