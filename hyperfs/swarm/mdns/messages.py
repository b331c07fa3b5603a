"""The two messages by which peers of one network find each other: a question for a topic, and an answer.

The one rule: what is read of a message is what docs/formats.md names, and anything else in it, or in its place, is
nothing.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PORT: Final = 5353
GROUP: Final = "224.0.0.251"
MAX_MESSAGE_BYTES: Final = 9000
ID_BYTES: Final = 32
NAME_BYTES: Final = 20
"""How much of a topic is in its name."""
_LABEL: Final = b"\x0ahyperswarm"
_ID_PREFIX: Final = b"id="
_SENDER: Final = "0.0.0.0"
_DOMAIN: Final = [b"hyperswarm", b"local"]
_REFERRER: Final = [b"referrer", *_DOMAIN]
_HEADER: Final = struct.Struct(">6H")
_QUESTION: Final = struct.Struct(">HH")
_RECORD: Final = struct.Struct(">HHIH")
_SERVICE: Final = struct.Struct(">HHH")
_POINTER: Final = 0xC0
_IS_ANSWER: Final = 0x8000
_IS_AUTHORITATIVE: Final = 0x0400
_IN: Final = 1
_A: Final = 1
_TXT: Final = 16
_SRV: Final = 33
_MAX_LABELS: Final = 5
"""One more than an address in dotted form has."""
_MAX_QUESTIONS: Final = 64
_MAX_ANSWERS: Final = 256


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody asks who has a topic, named by its first 20 bytes. ``id`` is that of who would not be answered."""

    name: bytes
    id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody has a topic, at ``port`` of ``host`` (None: where the answer came from); ``id`` is his."""

    name: bytes
    port: int
    host: str | None = None
    id: bytes | None = None


def question(names: Iterable[bytes]) -> bytes:
    """Return the message that asks for topics by their 20-byte names."""
    message = _Message(0)
    for name in names:
        message.ask(_labels_of(name))
    return message.encode()


def answer(answers: Iterable[Answer], asker: str | None) -> bytes:
    """Return the message that answers; ``asker`` is the address that asked, None when nobody did."""
    message = _Message(_IS_ANSWER | _IS_AUTHORITATIVE)
    for one in answers:
        labels = _labels_of(one.name)
        host = b"".join(bytes([len(label)]) + label for label in (one.host or _SENDER).encode().split(b"."))
        message.tell(labels, _SRV, _SERVICE.pack(0, 0, one.port) + host + b"\0")
        if one.id is not None:
            said = _ID_PREFIX + one.id
            message.tell(labels, _TXT, bytes([len(said)]) + said)
    if asker is not None:
        message.tell(_REFERRER, _A, ipaddress.IPv4Address(asker).packed)
    return message.encode()


class _Message:
    """A message that is put together; a name is written once, and pointed at where it comes again (RFC 1035, 4.1.4)."""

    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._questions = 0
        self._answers = 0
        self._body = bytearray()
        self._places: dict[tuple[bytes, ...], int] = {}

    def ask(self, labels: list[bytes]) -> None:
        """Ask who has the service of a name."""
        self._write_name(labels)
        self._body += _QUESTION.pack(_SRV, _IN)
        self._questions += 1

    def tell(self, labels: list[bytes], kind: int, data: bytes) -> None:
        """Tell of a name what is in a record of some kind, which is not to be kept."""
        self._write_name(labels)
        self._body += _RECORD.pack(kind, _IN, 0, len(data)) + data
        self._answers += 1

    def encode(self) -> bytes:
        """Return the message's bytes."""
        return _HEADER.pack(0, self._flags, self._questions, self._answers, 0, 0) + self._body

    def _write_name(self, labels: list[bytes]) -> None:
        for number in range(len(labels)):
            rest = tuple(labels[number:])
            place = self._places.get(rest)
            if place is not None:
                self._body += struct.pack(">H", _POINTER << 8 | place)
                return
            if (here := _HEADER.size + len(self._body)) < 1 << 14:  # where a pointer reaches
                self._places[rest] = here
            self._body += bytes([len(labels[number])]) + labels[number]
        self._body += b"\0"


def parse(data: bytes) -> list[Question | Answer]:
    """Return the questions, or the answers, of a message; nothing of one that is malformed or about other things.

    Everybody on the network can send as many as he likes, so no more is read of one than what it is asked for.
    """
    if len(data) > MAX_MESSAGE_BYTES or _LABEL not in data.lower():  # most of what is said is of other things
        return []
    try:
        return _parse(data)
    except (IndexError, struct.error):
        return []


def _parse(data: bytes) -> list[Question | Answer]:
    _, flags, asked_count, answer_count, _, _ = _HEADER.unpack_from(data)
    at = _HEADER.size
    asked: list[bytes] = []
    for number in range(asked_count):
        begin, at = at, _skip_name(data, at)
        kind, _ = _QUESTION.unpack_from(data, at)
        at += _QUESTION.size
        if number < _MAX_QUESTIONS and kind == _SRV and (name := _topic_name(data, begin)) is not None:
            asked.append(name)
    ids: dict[bytes, bytes] = {}
    services: list[tuple[bytes, int, str]] = []
    for _ in range(min(answer_count, _MAX_ANSWERS)):
        begin, at = at, _skip_name(data, at)
        kind, rdclass, _, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        end = at + size
        if end > len(data):
            return []
        name = _topic_name(data, begin) if kind in (_SRV, _TXT) else None
        if name is not None and kind == _TXT:
            said = data[at + 1 : min(at + 1 + data[at], end)] if size else b""
            if said.startswith(_ID_PREFIX):
                ids[name] = said.removeprefix(_ID_PREFIX)
        elif name is not None and rdclass == _IN:
            _, _, port = _SERVICE.unpack_from(data, at)
            host = b".".join(_labels(data, at + _SERVICE.size)).decode("ascii", "replace")
            if port and _is_ipv4(host):
                services.append((name, port, host))
        at = end
    if not flags & _IS_ANSWER:
        return [Question(name, ids.get(name)) for name in asked]
    return [Answer(name, port, None if host == _SENDER else host, ids.get(name)) for name, port, host in services]


def _labels_of(name: bytes) -> list[bytes]:
    return [name.hex().encode(), *_DOMAIN]


def _skip_name(data: bytes, at: int) -> int:
    """Return where the name ends that begins at ``at``. Raises IndexError when it does not end."""
    while size := data[at]:
        if size >= _POINTER:
            return at + 2
        at += 1 + size
    return at + 1


def _labels(data: bytes, at: int) -> list[bytes]:
    """Return the first labels of a name: of those that mean something there are few. Raises IndexError."""
    labels: list[bytes] = []
    for _ in range(2 * _MAX_LABELS):
        size = data[at]
        if not size or len(labels) >= _MAX_LABELS:
            break
        if size >= _POINTER:
            at = (size - _POINTER) << 8 | data[at + 1]
        else:
            labels.append(data[at + 1 : at + 1 + size])
            at += 1 + size
    return labels


def _topic_name(data: bytes, at: int) -> bytes | None:
    """Return the 20 bytes of a topic in the domain name at ``at``, None when it is another name."""
    digits, *domain = _labels(data, at) or [b""]
    if len(digits) != 2 * NAME_BYTES or [label.lower() for label in domain] != _DOMAIN:
        return None
    try:
        name = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        return None
    return name if len(name) == NAME_BYTES else None  # there may have been spaces


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
