"""Whom we look for on the local network, and to whom we answer.

The rules: who only announces does not ask, who only looks does not answer; a node does not find itself, by an id of its
own for each topic. What is read and what is answered has a rate, for each sender and in all, so that who floods the
network is not heard instead of others; and each tells of himself alone, so that he has nobody else dialled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hyperfs.swarm.addresses import Address
from hyperfs.swarm.allowance import Allowance, Rates
from hyperfs.swarm.mdns.messages import ID_BYTES, NAME_BYTES, Answer, answer, parse, question

READING: Final = Rates(unproven_host=100.0, unproven=1000.0, burst_seconds=3.0)
"""Messages that are read."""
ANSWERING: Final = Rates(unproven_host=10.0, unproven=50.0, burst_seconds=3.0)
"""Questions that are answered."""
_IN_ONE: Final = 10
"""Topics in one message, so that it fits in what an Ethernet carries."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Somebody on the local network who has a topic, as the host ``sender`` says."""

    topic: bytes
    address: Address
    sender: str


@dataclass(slots=True)
class _Topic:
    topic: bytes
    id: bytes
    port: int | None
    looks: bool


class Neighbours:
    """The topics of one process. ``random_bytes`` makes ids, ``now`` tells seconds."""

    def __init__(self, random_bytes: Callable[[int], bytes], now: Callable[[], float]) -> None:
        self._random_bytes = random_bytes
        self._now = now
        self._topics: dict[bytes, _Topic] = {}
        self._reading = Allowance(READING, now())
        self._answering = Allowance(ANSWERING, now())

    def join(self, topic: bytes, *, port: int | None, looks: bool) -> list[bytes]:
        """Announce a topic at a TCP ``port`` (None: do not), look for others (``looks``); return what to send at once.

        A topic that was joined before is announced and looked for as said now.
        """
        name = topic[:NAME_BYTES]
        before = self._topics.get(name)
        own_id = before.id if before is not None else self._random_bytes(ID_BYTES)
        self._topics[name] = _Topic(topic, own_id, port, looks)
        sent = [] if port is None else [answer([Answer(name, port, id=own_id)], None)]
        return [*sent, question([name])] if looks else sent

    def leave(self, topic: bytes) -> None:
        """Announce a topic, and look for it, no more."""
        self._topics.pop(topic[:NAME_BYTES], None)

    def question(self, topic: bytes) -> bytes | None:
        """Return what asks for a topic; None when it is not looked for."""
        one = self._topics.get(topic[:NAME_BYTES])
        return question([topic[:NAME_BYTES]]) if one is not None and one.looks else None

    def greeting(self) -> list[bytes]:
        """Return what to send where nobody knows us yet: what is announced, and questions for what is looked for."""
        announced = [Answer(name, one.port, id=one.id) for name, one in self._topics.items() if one.port is not None]
        wanted = [name for name, one in self._topics.items() if one.looks]
        answers = [answer(announced[at : at + _IN_ONE], None) for at in range(0, len(announced), _IN_ONE)]
        return answers + [question(wanted[at : at + _IN_ONE]) for at in range(0, len(wanted), _IN_ONE)]

    def receive(self, data: bytes, sender: str) -> tuple[list[Neighbour], bytes | None]:
        """Take a message from the IPv4 address ``sender``; return whom it tells of, and what to answer."""
        if not self._reading.may_answer(sender, self._now()):
            return [], None
        found: list[Neighbour] = []
        answers: list[Answer] = []
        for part in parse(data):
            topic = self._topics.get(part.name)
            if topic is None or part.id == topic.id:
                continue
            if isinstance(part, Answer):
                if topic.looks and part.host in (None, sender):
                    found.append(Neighbour(topic.topic, Address(sender, part.port), sender))
            elif topic.port is not None:
                answers.append(Answer(part.name, topic.port, id=topic.id))
        if not answers or not self._answering.may_answer(sender, self._now()):
            return found, None
        return found, answer(answers, sender)
