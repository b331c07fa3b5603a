"""Work on many things in one task, a slice at a time.

The rule: between two slices other tasks have their turn, so nobody waits for the work longer than for one slice.
"""

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, TypeVar

import trio

SLICE_SECONDS: Final = 0.002
"""How long one slice lasts, the last step of the work in it aside."""

T = TypeVar("T")


class Slices:
    """The slices of one work: ``await next()`` behind each step, where the work may be interrupted."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether others should have their turn now."""
        return time.perf_counter() >= self._end

    async def next(self) -> None:
        """Give other tasks a turn if the slice is over."""
        if self.is_over:
            await trio.lowlevel.checkpoint()
            self._end = time.perf_counter() + SLICE_SECONDS


class in_slices(AsyncIterator[T]):  # noqa: N801  it is called as a function, and has nothing that would be to be closed
    """Yield ``items``, and give other tasks a turn whenever a slice is over; ``items`` may change only then."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._slices: Slices | None = None

    async def __anext__(self) -> T:
        if self._slices is None:
            self._slices = Slices()
        else:
            await self._slices.next()
        for item in self._items:
            return item
        raise StopAsyncIteration


async def emptied(*containers: list[Any] | dict[Any, Any]) -> None:
    """Empty what holds much: letting go of a hundred thousand objects at once would take as long as any other work."""
    slices = Slices()
    for container in containers:
        take = container.pop if isinstance(container, list) else container.popitem
        while container:
            take()
            await slices.next()
