"""Cancellation at each point where it can come: what `trio.testing` has no word for."""

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import trio


class Cancelling(trio.abc.Instrument):
    """A context that cancels what is awaited in it at its n-th checkpoint, also one of a task that was begun in it."""

    def __init__(self, checkpoint: int) -> None:
        self.checkpoint = checkpoint
        self.was_cancelled = False
        """Whether what was awaited had as many checkpoints, and was cancelled at that one."""
        self.is_over = False
        self._steps = 0
        self._scope = trio.CancelScope()
        self._tasks: set[trio.lowlevel.Task] = set()

    def __enter__(self) -> Self:
        self._tasks.add(trio.lowlevel.current_task())
        trio.lowlevel.add_instrument(self)
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.is_over = True
        trio.lowlevel.remove_instrument(self)
        # Cancelled at the n-th checkpoint, and yet it may have come to its end: a shielded one, or a thread's.
        return self._scope.__exit__(kind, error, trace)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        above = task.parent_nursery
        if above is not None and above.parent_task in self._tasks:
            self._tasks.add(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task not in self._tasks or self.is_over:
            return
        self._steps += 1
        if self._steps == self.checkpoint:
            self.was_cancelled = True
            self._scope.cancel()


def cancelled_at_each_checkpoint(limit: int = 10_000) -> Iterator[Cancelling]:
    """Yield a context for each checkpoint of what is awaited in it, and at last one that cancels nothing.

    Each is for the same thing, done anew on things made anew::

        for attempt in cancelled_at_each_checkpoint():
            core = await new_core()
            with attempt:
                await core.append([b"block"])
            assert core.length in (0, 1)         # and whatever else is promised, which can be awaited

    ``attempt.was_cancelled`` says whether it was this time. Every point where trio lets other tasks run counts, also
    where it cannot be cancelled: then it is at the next where it can.
    """
    for checkpoint in range(1, limit):
        attempt = Cancelling(checkpoint)
        yield attempt
        assert attempt.is_over, "the context was not used"
        if not attempt.was_cancelled:
            return
    raise AssertionError(f"it has more than {limit} checkpoints")
