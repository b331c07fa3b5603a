"""What something was over time, where a change takes a while: what an onlooker may have seen, and when.

The rule: a change may show from its beginning, and shows from its end on. Times are counts of events, of one `Ticks`.
"""

import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class Ticks:
    """Counts events."""

    def __init__(self) -> None:
        self.now = 0

    def next(self) -> int:
        self.now += 1
        return self.now


@dataclass(slots=True)
class _Value(Generic[T]):
    value: T
    begins: float
    ends: float = math.inf


@dataclass(slots=True)
class History(Generic[T]):
    """The values that one thing had, changed by one task, one at a time."""

    ticks: Ticks
    values: list[_Value[T]] = field(default_factory=list)

    @property
    def newest(self) -> T:
        return self.values[-1].value

    def begin(self, value: T) -> None:
        """A change to ``value`` begins."""
        self.values.append(_Value(value, self.ticks.next()))

    def end(self) -> None:
        """The change that began has come to its end."""
        self.values[-1].ends = self.ticks.next()

    def set(self, value: T) -> None:
        self.begin(value)
        self.end()

    def seen(self, first: float, last: float) -> list[T]:
        """Return what may have been seen between two times."""
        following = [value.ends for value in self.values[1:]] + [math.inf]
        return [
            value.value
            for value, replaced in zip(self.values, following, strict=True)
            if value.begins <= last and replaced >= first
        ]
