"""What all connections together may hold, and who ends when it is more."""

from types import SimpleNamespace
from typing import cast

import pytest
import trio

from hyperfs import varint
from hyperfs.core.core import Core
from hyperfs.replication import EndReason, Replicator, memory
from hyperfs.replication.link import Link
from hyperfs.replication.memory import MAX_HELD_BYTES, Memory
from tests.support.clocks import settled
from tests.support.peers import join, scripted, serving, writer

MEBIBYTE = 1 << 20


class Holding:
    """A link as far as memory wants to know: what it holds, and what it brought."""

    def __init__(self, held_bytes: int, *, brought: int = 0) -> None:
        self.held_bytes = held_bytes
        self.downloads = SimpleNamespace(bytes=brought)
        self.ended = False

    def end(self, reason: EndReason, message: str) -> None:
        self.ended = True


def note(known: Memory, *links: Holding) -> None:
    for link in links:
        known.note(cast(Link, link))


def test_what_is_not_too_much_ends_nobody() -> None:
    links = [Holding(MAX_HELD_BYTES // 4) for _ in range(4)]
    note(known := Memory(), *links)
    assert known.held_bytes == MAX_HELD_BYTES
    assert not any(link.ended for link in links)


def test_of_those_that_hold_much_ends_who_brought_least() -> None:
    small, useful, idle = Holding(100), Holding(MAX_HELD_BYTES // 2, brought=5), Holding(MAX_HELD_BYTES // 2, brought=4)
    note(known := Memory(), small, useful, idle)
    assert (small.ended, useful.ended, idle.ended) == (False, False, True)
    assert known.held_bytes == MAX_HELD_BYTES // 2 + 100


def test_of_those_that_brought_nothing_ends_who_holds_most() -> None:
    links = [Holding(MAX_HELD_BYTES * part // 10) for part in (3, 4, 3)]
    note(known := Memory(), *links)
    links[0].held_bytes += 10
    note(known, links[0])
    assert [link.ended for link in links] == [False, True, False]


def test_the_more_is_held_the_less_each_is_given() -> None:
    known = Memory()
    given = []
    for _ in range(5):
        given.append(known.room(least=MEBIBYTE, most=8 * MEBIBYTE))
        note(known, Holding(MAX_HELD_BYTES // 4))
    assert given == sorted(given, reverse=True)
    assert (given[0], given[-1]) == (8 * MEBIBYTE, MEBIBYTE)


async def test_frames_that_never_end_are_bounded_for_all_connections_together(
    core: Core, replicator: Replicator, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MAX_HELD_BYTES", 4 * MEBIBYTE)
    join(nursery, replicator, serving(await writer(20)))
    await core.fetch([range(20)])
    most = 0
    hostile = [scripted(nursery, replicator, name=f"hostile:{number}") for number in range(8)]
    for peer in hostile:
        await peer.open()
        await peer.send_bytes(varint.encode(8 * MEBIBYTE) + bytes(MEBIBYTE))
        await settled()
        most = max(most, sum(link.held_bytes for link in replicator._links))
    assert most <= 4 * MEBIBYTE
    endings = [peer.ending for peer in hostile]
    assert endings.count(None) < len(hostile)
    assert all(ending is None or "held for it" in ending.message for ending in endings)
    assert any(link.downloads.bytes for link in replicator._links)


async def test_what_is_held_for_a_connection_counts_no_more_once_it_has_ended(
    replicator: Replicator, core: Core, nursery: trio.Nursery
) -> None:
    peer = scripted(nursery, replicator)
    await peer.open()
    await peer.send_bytes(varint.encode(MEBIBYTE) + bytes(MEBIBYTE // 2))
    await settled()
    assert replicator.memory.held_bytes >= MEBIBYTE // 2
    await peer.stream.aclose()
    await peer.ended.wait()
    assert replicator.memory.held_bytes == 0
