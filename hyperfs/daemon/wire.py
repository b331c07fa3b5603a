"""What a command, a mount and the daemon say to each other, as bytes; without I/O.

A frame is ``u32 size of the header ‖ u32 size of the payload ‖ header ‖ payload``, numbers big-endian. The header is
one msgpack array, the payload is raw (file content, so that it need not be copied through msgpack). The first frame
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

PROTOCOL: Final = 1
"""Raised whenever a message changes its meaning."""

MAX_HEADER: Final = 16 * 1024 * 1024
MAX_PAYLOAD: Final = 16 * 1024 * 1024
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
    """Something asked of the daemon. ``id`` is the client's, unique among its unanswered requests.

    ``payload`` is what came with it; what is to be sent with one goes beside it.
    """

    id: int
    method: str
    arguments: Mapping[str, Any]
    payload: Buffer = b""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client no longer wants the answer to request ``id``; it is answered all the same."""

    id: int


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to request ``id``."""

    id: int
    result: Any = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Request ``id`` failed. ``error`` is what `hyperfs.daemon.failures` makes an exception of."""

    id: int
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the daemon tells unasked, such as a core's new head."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


Message: TypeAlias = Hello | Request | Cancel | Reply | Failure | Notice


def encode(message: Message, payload_size: int = 0) -> bytes:
    """Return a message's frame up to its payload, of which ``payload_size`` bytes are to follow.

    Raises:
        EncodingError: the message is larger than a frame may be.
    """
    match message:
        case Request(id, method, arguments):
            fields: list[Any] = [_REQUEST, id, method, arguments]
        case Reply(id, result):
            fields = [_REPLY, id, result]
        case Cancel(id):
            fields = [_CANCEL, id]
        case Failure(id, error):
            fields = [_FAILURE, id, error]
        case Notice(name, arguments):
            fields = [_NOTICE, name, arguments]
        case Hello(protocol, version, pid):
            fields = [_HELLO, protocol, version, pid]
    header: bytes = msgpack.packb(fields, unicode_errors="surrogateescape")
    _check_sizes(len(header), payload_size)
    return PREFIX.pack(len(header), payload_size) + header


def sizes(prefix: Buffer) -> tuple[int, int]:
    """Return the sizes in bytes of the header and the payload that follow ``prefix``.

    Raises:
        EncodingError: they are beyond the bounds.
    """
    header, payload = PREFIX.unpack(prefix)
    _check_sizes(header, payload)
    return header, payload


def decode(header: Buffer, payload: Buffer = b"") -> Message:
    """Return the message in a frame's header and payload.

    Raises:
        EncodingError: it is no message of this protocol.
    """
    try:
        fields = msgpack.unpackb(header, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise EncodingError(f"a control message is not msgpack: {error}") from error
    match fields:
        case [1, int(id), str(method), dict(arguments)]:
            return Request(id, method, arguments, payload)
        case _ if payload:
            pass
        case [2, int(id)]:
            return Cancel(id)
        case [3, int(id), result]:
            return Reply(id, result)
        case [4, int(id), dict(failure)]:
            return Failure(id, failure)
        case [5, str(name), dict(arguments)]:
            return Notice(name, arguments)
        case ["hyperfs", int(protocol), str(version), int(pid), *_]:
            return Hello(protocol, version, pid)
    raise EncodingError("a control message of an unknown form")


def _check_sizes(header: int, payload: int) -> None:
    if header > MAX_HEADER or payload > MAX_PAYLOAD:
        raise EncodingError(f"a control message of {header} + {payload} bytes is too large")
