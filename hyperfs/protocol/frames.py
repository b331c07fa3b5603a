"""Frames: where one message ends and the next begins.

varint(length) ‖ varint(channel << 4 | type) ‖ body, where length counts all behind it; a lone 0 is a keep-alive. See
docs/formats.md, "The wire".

What a peer can make us hold is one frame, at most `MAX_FRAME_BYTES`, and only as much of it as it has sent. Bytes are
decrypted straight into the one buffer they are parsed in, and a frame of any size that comes in any number of pieces is
moved there at most once.
"""

from collections.abc import Iterator
from enum import IntEnum

from hyperfs import varint
from hyperfs.errors import EncodingError, PeerMisbehaved

MAX_FRAME_BYTES = 8 * 1024 * 1024
_SMALL_BUFFER = 4096
_LARGE_BUFFER = 1024 * 1024
_SPARE_TIMES = 64
"""A buffer so many times larger than what came last is given back."""
KEEP_ALIVE = b"\x00"
BYTES_AT_ONCE = 32 * 1024
_LARGE_COST_BYTES = BYTES_AT_ONCE // 8
"""What a frame counts for that is larger than all of that: little but a copy of it is made."""


class MessageType(IntEnum):
    """What the body of a frame is. 11 to 14 are unused, and ignored."""

    OPEN = 0
    OPTIONS = 1
    STATUS = 2
    HAVE = 3
    UNHAVE = 4
    WANT = 5
    UNWANT = 6
    REQUEST = 7
    CANCEL = 8
    DATA = 9
    CLOSE = 10
    EXTENSION = 15


def encode_frame(channel_number: int, message_type: int, body: bytes) -> bytes:
    """Return one whole frame."""
    header = varint.encode(channel_number << 4 | message_type)
    return varint.encode(len(header) + len(body)) + header + body


class FrameReader:
    """The buffer of what a peer sent and was not yet parsed.

    Fill a `space` of the right size with plain bytes, then take all the `frames` that are complete.
    """

    __slots__ = ("_buffer", "_end", "_missing", "_start", "_view", "more", "pending_bytes")

    def __init__(self) -> None:
        self._buffer = bytearray(_SMALL_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._missing = 1  # of bytes behind _end, before parsing has any sense
        self.more = False
        self.pending_bytes = 0
        """How long the frame is that is not complete, once that is known."""

    @property
    def buffered(self) -> int:
        """Bytes of the one incomplete frame that are held."""
        return self._end - self._start

    @property
    def capacity(self) -> int:
        """Bytes that the buffer takes."""
        return len(self._buffer)

    def space(self, size: int) -> memoryview:
        """Return where the next ``size`` bytes go; they count as received, so fill them before anything else."""
        if self._end + size > len(self._buffer):
            self._make_room(self._end - self._start, size)
        begin = self._end
        self._end = begin + size
        self._missing -= size
        return self._view[begin : self._end]

    def frames(self, at_most: int | None = None) -> Iterator[tuple[int, int, memoryview]]:
        """Take the complete frames, each ``(channel number, type, body)``, keep-alives left out.

        Ends after ``at_most`` frames, keep-alives counted, or then after `BYTES_AT_ONCE` of them; `more` tells whether
        others may be complete.

        A body is valid until the next call of `space`. Raises PeerMisbehaved for what cannot be a frame, after which
        this reader is of no more use.
        """
        self.more = False
        if self._missing > 0:
            return
        self.pending_bytes = 0
        left = -1 if at_most is None else at_most
        far = self._end if at_most is None else self._start + BYTES_AT_ONCE
        buffer = self._buffer
        view = self._view
        end = self._end
        position = self._start
        while position < end:
            if not left or position >= far:
                self._start = position
                self.more = True
                return
            left -= 1
            length = buffer[position]
            body = position + 1
            if length >= 0x80:
                decoded = _partial_varint(view[:end], position)
                if decoded is None:
                    break
                length, body = decoded
                if length > MAX_FRAME_BYTES:
                    raise PeerMisbehaved(f"sent a frame of {length} bytes, more than {MAX_FRAME_BYTES}")
            stop = body + length
            if stop > end:
                self._start = position
                self._missing = stop - end
                self.pending_bytes = length
                return
            if length:
                header = buffer[body]
                body += 1
                if header >= 0x80:
                    header, body = _header(view[:stop], body - 1)
                yield header >> 4, header & 15, view[body:stop]
                if length > BYTES_AT_ONCE:
                    far += length - _LARGE_COST_BYTES
            position = stop
        self._missing = 1
        if position < end:
            self._start = position
            return
        self._start = self._end = 0
        if len(buffer) > min(_LARGE_BUFFER, max(_SMALL_BUFFER, _SPARE_TIMES * end)):
            self._buffer = bytearray(_SMALL_BUFFER)
            self._view = memoryview(self._buffer)

    def _make_room(self, held: int, size: int) -> None:
        needed = held + size
        if needed <= len(self._buffer):
            self._view[:held] = self._view[self._start : self._end]
        else:
            buffer = bytearray(max(_SMALL_BUFFER, needed, min(2 * needed, MAX_FRAME_BYTES + _SMALL_BUFFER)))
            buffer[:held] = self._view[self._start : self._end]
            self._buffer = buffer
            self._view = memoryview(buffer)
        self._start = 0
        self._end = held


def _partial_varint(data: memoryview, offset: int) -> tuple[int, int] | None:
    try:
        return varint.decode_partial(data, offset)
    except EncodingError as error:
        raise PeerMisbehaved(f"sent a frame whose length is no number: {error}") from error


def _header(data: memoryview, offset: int) -> tuple[int, int]:
    try:
        return varint.decode(data, offset)
    except EncodingError as error:
        raise PeerMisbehaved(f"sent a frame whose channel and type are no number: {error}") from error
