"""A client's requests over a connection that may come and go."""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hyperfs.daemon.connection import Connection
from hyperfs.daemon.link import OUTSTANDING, Link
from hyperfs.daemon.wire import Cancel, Failure, Hello, Message, Notice, Reply, Request, encode
from hyperfs.errors import BlockNotAvailable, DaemonError


def pair() -> tuple[Connection, Connection]:
    ends = socket.socketpair()
    one, other = map(trio.socket.from_stdlib_socket, ends)
    return Connection(one, takes_descriptors=True), Connection(other)


async def never() -> Connection | None:
    await trio.sleep_forever()


async def nothing_to_restore() -> None:
    return


class Peer:
    """The daemon's end, played by a test."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def next(self, kind: type[Message] = Request) -> Any:
        message = await self.connection.receive()
        assert isinstance(message, kind)
        return message

    async def answer(self, result: Any = None) -> Request:
        request: Request = await self.next()
        await self.connection.send(Reply(request.id, result))
        return request


@asynccontextmanager
async def linked(*, notices: list[Notice] | None = None) -> AsyncIterator[tuple[Link, Peer]]:
    link = Link((notices if notices is not None else []).append)
    ours, theirs = pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run_once, ours)
        yield link, Peer(theirs)
        nursery.cancel_scope.cancel()
    theirs.close()


async def note_next(peer: Peer, arrived: list[Request]) -> None:
    arrived.append(await peer.next())


async def asked_and_cancelled(link: Link, peer: Peer) -> Request:
    """Return a request that arrived at ``peer``, and whose caller was cancelled then."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.request, "core.fetch", {})
        request: Request = await peer.next()
        nursery.cancel_scope.cancel()
    return request


async def test_a_request_gets_its_answer() -> None:
    async with linked() as (link, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.answer, "pong")
        assert await link.request("ping", {}) == "pong"


async def test_answers_may_come_in_any_order() -> None:
    answers: dict[str, Any] = {}

    async def ask(link: Link, name: str) -> None:
        answers[name] = await link.request(name, {})

    async with linked() as (link, peer), trio.open_nursery() as nursery:
        nursery.start_soon(ask, link, "a")
        nursery.start_soon(ask, link, "b")
        requests = [await peer.next(), await peer.next()]
        for request in reversed(requests):
            await peer.connection.send(Reply(request.id, request.method))
    assert answers == {"a": "a", "b": "b"}


async def test_a_failure_is_raised_as_what_it_was() -> None:
    async with linked() as (link, peer), trio.open_nursery() as nursery:

        async def fail() -> None:
            request = await peer.next()
            await peer.connection.send(Failure(request.id, {"kind": "BlockNotAvailable", "message": "gone"}))

        nursery.start_soon(fail)
        with pytest.raises(BlockNotAvailable, match="gone"):
            await link.request("core.fetch", {})


async def test_cancelling_the_caller_withdraws_the_request() -> None:
    async with linked() as (link, peer):
        request = await asked_and_cancelled(link, peer)
        assert await peer.next(Cancel) == Cancel(request.id)


async def test_an_answer_that_comes_after_the_cancellation_is_ignored() -> None:
    async with linked() as (link, peer):
        request = await asked_and_cancelled(link, peer)
        await peer.connection.send(Reply(request.id, "too late"))
        async with trio.open_nursery() as nursery:
            await peer.next(Cancel)
            nursery.start_soon(peer.answer, "in time")
            assert await link.request("ping", {}) == "in time"


async def test_what_is_sent_without_waiting_arrives_in_order() -> None:
    async with linked() as (link, peer):
        for number in range(5):
            link.send("content.append", {"n": number})
        arrived = [await peer.next() for _ in range(5)]
    assert [request.arguments["n"] for request in arrived] == list(range(5))


async def answer_with(peer: Peer, opened: int, name: str) -> None:
    request = await peer.next()
    reply = Reply(request.id, {"name": name}, has_descriptor=True)
    await peer.connection.send_encoded(encode(Notice("head")) + encode(reply), opened)
    os.close(opened)


async def test_a_descriptor_comes_with_its_answer(tmp_path: Path) -> None:
    async with linked() as (link, peer), trio.open_nursery() as nursery:
        for name in ("a", "b"):
            (tmp_path / name).write_text(name)
            with (tmp_path / name).open() as file:
                nursery.start_soon(answer_with, peer, os.dup(file.fileno()), name)
                answer = await link.request("content.lease", {})
            assert (answer["name"], os.read(answer["descriptor"], 9)) == (name, name.encode())
            os.close(answer["descriptor"])


async def test_a_descriptor_that_nobody_waits_for_any_more_is_closed() -> None:
    async with linked() as (link, peer):
        request = await asked_and_cancelled(link, peer)
        end, other = socket.socketpair()
        with other:
            with end:
                frame = encode(Reply(request.id, {}, has_descriptor=True))
                await peer.connection.send_encoded(frame, end.fileno())
            await wait_all_tasks_blocked()
            assert other.recv(1) == b""


async def test_an_answer_that_lacks_its_descriptor_ends_the_connection() -> None:
    async with linked() as (link, peer):
        await peer.connection.send(Reply(1, {}, has_descriptor=True))
        await wait_all_tasks_blocked()
        assert not link.connected


async def test_the_daemon_takes_no_descriptors() -> None:
    ours, theirs = pair()
    end, other = socket.socketpair()
    with other:
        with end:
            await ours.send_encoded(encode(Notice("head")), end.fileno())
        assert await theirs.receive() == Notice("head")
        assert other.recv(1) == b""
    ours.close()
    theirs.close()


async def test_a_notice_is_passed_on() -> None:
    notices: list[Notice] = []
    async with linked(notices=notices) as (_, peer):
        await peer.connection.send(Notice("head", {"length": 5}))
        await wait_all_tasks_blocked()
    assert notices == [Notice("head", {"length": 5})]


async def test_no_more_than_the_bound_is_asked_at_once() -> None:
    async with linked() as (link, peer), trio.open_nursery() as nursery:
        for _ in range(OUTSTANDING + 1):
            nursery.start_soon(link.request, "core.fetch", {})
        for _ in range(OUTSTANDING):
            await peer.next()
        nursery.start_soon(note_next, peer, more := [])
        await wait_all_tasks_blocked()
        assert more == []
        nursery.cancel_scope.cancel()


async def test_when_the_daemon_goes_away_what_waits_fails() -> None:
    async with linked() as (link, peer):

        async def hang_up() -> None:
            await peer.next()
            peer.connection.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang_up)
            with pytest.raises(DaemonError, match="went away"):
                await link.request("drive.commit", {})


async def test_garbage_from_the_daemon_ends_the_connection() -> None:
    async with linked() as (link, peer):
        await peer.connection.send_encoded(b"\xff" * 64)
        await wait_all_tasks_blocked()
        assert not link.connected


@asynccontextmanager
async def lasting(
    restore: Callable[[], Awaitable[None]] = nothing_to_restore,
) -> AsyncIterator[tuple[Link, Peer, Callable[[], Peer]]]:
    """A link that reconnects; the third value is a function that lets it, to a new peer."""
    link = Link(lambda notice: None)
    ours, theirs = pair()
    waiting: list[Connection] = []
    come = trio.Event()
    opened = [theirs]

    async def connect() -> Connection | None:
        await come.wait()
        return waiting.pop()

    def reappear() -> Peer:
        mine, other = pair()
        waiting.append(mine)
        opened.append(other)
        come.set()
        return Peer(other)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(link.run_for_ever, ours, connect, restore))
        yield link, Peer(theirs), reappear
        nursery.cancel_scope.cancel()
    for connection in opened:
        connection.close()


async def test_what_may_be_repeated_is_asked_again_of_the_next_daemon() -> None:
    async with lasting() as (link, peer, reappear), trio.open_nursery() as nursery:

        async def die_and_come_back() -> None:
            await peer.next()
            peer.connection.close()
            await reappear().answer("here it is")

        nursery.start_soon(die_and_come_back)
        assert await link.request("core.fetch", {}, repeatable=True) == "here it is"


async def test_what_must_not_be_repeated_fails_and_is_not_asked_again() -> None:
    async with lasting() as (link, peer, reappear), trio.open_nursery() as nursery:

        async def die() -> None:
            await peer.next()
            peer.connection.close()

        nursery.start_soon(die)
        with pytest.raises(DaemonError):
            await link.request("drive.commit", {})
        nursery.start_soon(reappear().answer)
        assert await link.request("ping", {}, repeatable=True) is None


async def test_a_request_made_while_nobody_is_there_waits_for_the_next_daemon() -> None:
    async with lasting() as (link, peer, reappear), trio.open_nursery() as nursery:
        peer.connection.close()
        await wait_all_tasks_blocked()
        nursery.start_soon(partial(link.request, "core.fetch", {}, repeatable=True))
        await wait_all_tasks_blocked()
        assert (await reappear().answer()).method == "core.fetch"


async def test_a_request_cancelled_while_nobody_is_there_is_never_asked() -> None:
    async with lasting() as (link, peer, reappear):
        peer.connection.close()
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(link.request, "core.fetch", {}, repeatable=True))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            again = reappear()
            nursery.start_soon(partial(link.request, "ping", {}, repeatable=True))
            assert (await again.answer()).method == "ping"


async def test_the_state_is_restored_before_waiting_requests_are_asked_again() -> None:
    links: list[Link] = []

    async def restore() -> None:
        await links[0].request("core.open", {})

    async with lasting(restore) as (link, peer, reappear), trio.open_nursery() as nursery:
        links.append(link)
        nursery.start_soon(partial(link.request, "core.fetch", {}, repeatable=True))
        await peer.next()
        peer.connection.close()
        again = reappear()
        assert [(await again.answer()).method for _ in range(2)] == ["core.open", "core.fetch"]


async def test_two_ends_greet_each_other() -> None:
    one, other = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.greet)
        assert (await other.greet()).pid == os.getpid()
    one.close()
    other.close()


@pytest.mark.parametrize("first", [Cancel(1), Request(1, "status", {})], ids=["cancel", "request"])
async def test_who_does_not_greet_is_not_listened_to(first: Message) -> None:
    one, other = pair()
    await one.send(first)
    with pytest.raises(DaemonError):
        await other.greet()
    one.close()
    other.close()


async def test_who_says_nothing_is_given_up(patient_clock: trio.testing.MockClock) -> None:
    one, other = pair()
    with pytest.raises(DaemonError, match="said nothing"):
        await other.greet()
    one.close()
    other.close()


async def test_a_hello_of_another_version_is_still_understood() -> None:
    one, other = pair()
    await one.send(Hello(99, "9.9", 1))
    assert await other.greet() == Hello(99, "9.9", 1)
    one.close()
    other.close()
