"""The kernel is told in threads, once for each target, and never while an operation of ours may be waiting there."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from hyperfs.errors import BlockNotAvailable
from hyperfs.mount import invalidate
from hyperfs.mount.invalidate import Invalidator
from hyperfs.mount.waiting import TimedOut, Waits


class Kernel:
    """What the invalidator calls, with a gate that it waits at."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes | None]] = []
        self.attributes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None

    def drop_name(self, directory: int, name: bytes) -> None:
        self._wait((directory, name))

    def drop_inode(self, number: int, attr_only: bool = False) -> None:
        if attr_only:
            self.attributes.append(number)
        else:
            self._wait((number, None))

    def _wait(self, target: tuple[int, bytes | None]) -> None:
        self.entered.release()
        assert self.gate.wait(60)
        self.told.append(target)
        if self.error is not None:
            raise self.error


@contextmanager
def invalidating(kernel: Kernel, waits: Waits) -> Iterator[Invalidator]:
    invalidator = Invalidator(waits, drop_name=kernel.drop_name, drop_inode=kernel.drop_inode)
    try:
        yield invalidator
    finally:
        kernel.gate.set()
        assert invalidator.close()


async def entered(kernel: Kernel) -> None:
    with trio.fail_after(60):
        await trio.to_thread.run_sync(kernel.entered.acquire)


async def test_attributes_are_dropped_at_once() -> None:
    kernel = Kernel()
    with invalidating(kernel, Waits()) as invalidator:
        invalidator.attributes(5)
        assert kernel.attributes == [5]


async def test_names_and_pages_are_dropped() -> None:
    kernel = Kernel()
    with invalidating(kernel, Waits()) as invalidator:
        invalidator.add_name(1, b"a")
        invalidator.add_pages(7)
        await entered(kernel)
        await entered(kernel)
    assert sorted(kernel.told, key=str) == [(1, b"a"), (7, None)]


async def test_what_waits_already_is_not_added_again() -> None:
    kernel, waits = Kernel(), Waits()
    with invalidating(kernel, waits) as invalidator, waits.limit(10, "lookup", busy=1):
        for _ in range(3):
            invalidator.add_name(1, b"a")
        assert invalidator.pending() == 1


async def test_nothing_is_dropped_where_an_operation_waits() -> None:
    kernel, waits = Kernel(), Waits()
    with invalidating(kernel, waits) as invalidator:
        with waits.limit(10, "lookup", busy=1):
            invalidator.add_name(1, b"a")
            invalidator.add_name(2, b"b")
            await entered(kernel)
        await entered(kernel)
    assert kernel.told == [(2, b"b"), (1, b"a")]


async def test_who_has_too_many_targets_waits(monkeypatch: pytest.MonkeyPatch, patient_clock: None) -> None:
    monkeypatch.setattr(invalidate, "MAX_PENDING", 4)
    kernel, waits = Kernel(), Waits()
    with invalidating(kernel, waits) as invalidator, waits.limit(100, "lookup", busy=1):
        for name in (b"a", b"b", b"c", b"d"):
            await invalidator.room()
            invalidator.add_name(1, name)
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            await invalidator.room()


async def test_room_comes_back_as_targets_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidate, "MAX_PENDING", 4)
    kernel, waits = Kernel(), Waits()
    with invalidating(kernel, waits) as invalidator:
        with waits.limit(10, "lookup", busy=1):
            for name in (b"a", b"b", b"c", b"d"):
                invalidator.add_name(1, name)
        with trio.fail_after(60):
            await invalidator.room()


@pytest.mark.parametrize("error", [FileNotFoundError(2, "unknown"), OSError(5, "odd")])
async def test_an_error_of_the_kernel_does_not_end_it(error: OSError) -> None:
    kernel = Kernel()
    kernel.error = error
    with invalidating(kernel, Waits()) as invalidator:
        invalidator.add_name(1, b"a")
        await entered(kernel)
        kernel.error = None
        invalidator.add_name(1, b"b")
        await entered(kernel)
    assert kernel.told == [(1, b"a"), (1, b"b")]


async def test_an_operation_is_given_up_at_its_deadline(patient_clock: None) -> None:
    with pytest.raises(TimedOut, match="nothing came for 3 seconds"), Waits().limit(3, "x", busy=1):
        await trio.sleep_forever()


async def test_closing_ends_every_wait_and_allows_no_other() -> None:
    waits = Waits()
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(BlockNotAvailable, match="being ended"), waits.limit(1000, "x", busy=1):
                await trio.sleep_forever()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        waits.close()
    with pytest.raises(BlockNotAvailable), waits.limit(1000, "x", busy=1):
        await trio.lowlevel.checkpoint()


async def test_cancellation_is_not_taken_for_a_timeout() -> None:
    waits = Waits()
    with trio.CancelScope() as scope, waits.limit(1000, "x", busy=1):
        scope.cancel()
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not waits.is_busy(1)


async def test_what_nobody_expected_does_not_end_the_telling() -> None:
    kernel = Kernel()
    with invalidating(kernel, Waits()) as invalidator:
        kernel.error = ValueError("of nobody's making")
        for number in range(5):
            invalidator.add_name(1, b"%d" % number)
        for _ in range(5):
            await entered(kernel)
    assert len(kernel.told) == 5
