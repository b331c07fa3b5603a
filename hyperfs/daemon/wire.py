"""What a command, a mount and the daemon say to each other, as bytes; without I/O.

A frame is ``u32 size of the message ‖ u32 zero ‖ message``, numbers big-endian; the message is one msgpack array. A
reply may say that a file descriptor comes with it. Content does not come this way, but through `slots`. The first frame
each way is a `Hello`; its form never changes, so that two versions that do not understand each other can say so.

The rule: every size is bounded before it is believed, and a frame that is not exactly one of the messages below is an
`EncodingError`, after which the connection ends.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgpack

from hyperfs.errors import EncodingError

PROTOCOL: Final = 4
"""Raised whenever a message changes its meaning."""

MAX_MESSAGE: Final = 16 * 1024 * 1024
MAX_OUTSTANDING: Final = 4096
"""Requests that one client may have unanswered; a client waits before it sends more."""

PREFIX: Final = struct.Struct(">II")

Buffer: TypeAlias = bytes | bytearray | memoryview

_HELLO: Final = "hyperfs"
_REQUEST: Final = 1
_CANCEL: Final = 2
_REPLY: Final = 3
_FAILURE: Final = 4
_NOTICE: Final = 5


@dataclass(frozen=True, slots=True)
class Hello:
    """Who is speaking: the first frame each way. ``version`` is that of the hyperfs package."""

    protocol: int
    version: str
    pid: int


@dataclass(frozen=True, slots=True)
class Request:
    """Something asked of the daemon. ``id`` is the client's, unique among its unanswered requests."""

    id: int
    method: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client no longer wants the answer to request ``id``; it is answered all the same."""

    id: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to request ``id``; ``has_descriptor`` when a file descriptor comes with it."""

    id: int
    result: Any = None
    has_descriptor: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Request ``id`` failed. ``error`` is a `Described` of `hyperfs.daemon.failures`."""

    id: int
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the daemon tells unasked, such as a core's new head."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Message: TypeAlias = Hello | Request | Cancel | Reply | Failure | Notice


def encode(message: Message) -> bytes:
    """Return a message's frame.

    Raises:
        EncodingError: the message is larger than a frame may be.
    """
    match message:
        case Request(id, method, arguments):
            fields: list[Any] = [_REQUEST, id, method, arguments]
        case Reply(id, result, has_descriptor):
            fields = [_REPLY, id, result, has_descriptor]
        case Cancel(id):
            fields = [_CANCEL, id]
        case Failure(id, error):
            fields = [_FAILURE, id, error]
        case Notice(name, arguments):
            fields = [_NOTICE, name, arguments]
        case Hello(protocol, version, pid):
            fields = [_HELLO, protocol, version, pid]
    packed: bytes = msgpack.packb(fields, unicode_errors="surrogateescape")
    _check_size(len(packed))
    return PREFIX.pack(len(packed), 0) + packed


def size_of(prefix: Buffer) -> int:
    """Return the size in bytes of the message that follows ``prefix``.

    Raises:
        EncodingError: it is beyond the bound.
    """
    size, zero = PREFIX.unpack(prefix)
    _check_size(size)
    if zero:
        raise EncodingError("a control message with something behind it")
    return int(size)


def decode(packed: Buffer) -> Message:
    """Return the message in a frame.

    Raises:
        EncodingError: it is no message of this protocol.
    """
    try:
        fields = msgpack.unpackb(packed, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EncodingError(f"a control message is not msgpack: {error}") from error
    match fields:
        case [1, int(id), str(method), dict(arguments)]:
            return Request(id, method, arguments)
        case [2, int(id)]:
            return Cancel(id)
        case [3, int(id), result, bool(has_descriptor)]:
            return Reply(id, result, has_descriptor)
        case [4, int(id), dict(failure)]:
            return Failure(id, failure)
        case [5, str(name), dict(arguments)]:
            return Notice(name, arguments)
        case ["hyperfs", int(protocol), str(version), int(pid), *_]:
            return Hello(protocol, version, pid)
    raise EncodingError("a control message of an unknown form")


def _check_size(size: int) -> None:
    if size > MAX_MESSAGE:
        raise EncodingError(f"a control message of {size} bytes is too large")
