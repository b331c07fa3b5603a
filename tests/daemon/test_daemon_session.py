"""What the daemon does for one client, whose other end a test plays."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from hyperfs.daemon.answers import Head
from hyperfs.daemon.codec import to_plain
from hyperfs.daemon.connection import Connection
from hyperfs.daemon.requests import BlocksInUse, GetHead
from hyperfs.daemon.session import MAX_UNSENT_BYTES, Handler, Handlers, Session
from hyperfs.daemon.wire import MAX_OUTSTANDING, Cancel, Failure, Reply, Request

KEY = bytes(32)
LARGE = tuple(range(number, number + 1) for number in range(20_000))
LARGE_BYTES = 20_000 * 5


@asynccontextmanager
async def served(handlers: dict[Any, Handler]) -> AsyncIterator[tuple[Connection, Session]]:
    theirs, ours = map(trio.socket.from_stdlib_socket, socket.socketpair())
    client, session = Connection(theirs), Session(Connection(ours), Handlers(handlers, {}, {}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await client.greet()
        yield client, session
        client.close()


def request(id: int, call: BlocksInUse | GetHead) -> Request:
    return Request(id, call.method, to_plain(call))


async def test_of_a_client_that_does_not_read_no_more_is_answered_than_it_may_leave_unread() -> None:
    answered = 0

    async def answer(session: Session, call: BlocksInUse) -> tuple[range, ...]:
        nonlocal answered
        answered += 1
        return LARGE

    async with served({BlocksInUse: answer}) as (client, _), trio.open_nursery() as nursery:

        async def ask() -> None:
            for id in range(3 * MAX_OUTSTANDING):
                await client.send(request(id, BlocksInUse(KEY)))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert answered * LARGE_BYTES < 3 * MAX_UNSENT_BYTES
        nursery.cancel_scope.cancel()


async def test_what_waited_for_a_client_to_read_is_answered_when_it_does() -> None:
    async def answer(session: Session, call: BlocksInUse) -> tuple[range, ...]:
        return LARGE

    count = 100
    async with served({BlocksInUse: answer}) as (client, _), trio.open_nursery() as nursery:

        async def ask() -> None:
            for id in range(count):
                await client.send(request(id, BlocksInUse(KEY)))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.01)
        answers = [await client.receive() for _ in range(count)]
        assert {answer.id for answer in answers if isinstance(answer, Reply)} == set(range(count))


async def test_what_is_withdrawn_is_answered_and_ends() -> None:
    ended = trio.Event()

    async def wait(session: Session, call: GetHead) -> Head:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with served({GetHead: wait}) as (client, _):
        await client.send(request(1, GetHead(KEY)))
        await client.send(Cancel(1))
        answer = await client.receive()
        assert isinstance(answer, Failure)
        assert (answer.id, ended.is_set()) == (1, True)


async def test_whatever_a_client_asked_for_ends_when_it_goes_away() -> None:
    waiting, ended = trio.Event(), trio.Event()

    async def wait(session: Session, call: GetHead) -> Head:
        waiting.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with served({GetHead: wait}) as (client, _):
        await client.send(request(1, GetHead(KEY)))
        await waiting.wait()
    assert ended.is_set()


async def test_a_fault_in_one_answer_is_that_answers_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(session: Session, call: GetHead) -> Head:
        raise ZeroDivisionError

    async with served({GetHead: fail}) as (client, _):
        for id in range(2):
            await client.send(request(id, GetHead(KEY)))
            answer = await client.receive()
            assert isinstance(answer, Failure)
            assert "see its log" in answer.error["message"]
    assert "a request failed unexpectedly" in caplog.text
