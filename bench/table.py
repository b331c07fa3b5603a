"""Rows, their results, and the table they make.

The rule: a ratio is always "how many times better hyperfs is", whether more is better or less.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from bench.workspace import Workspace

Measure = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Sides:
    """What measures each side once, in the row's unit; ``limit`` is the best that anything could do here.

    ``floor`` is what a file system takes that does nothing and is put together as ours is: what is not ours to save.
    """

    hyperfs: Measure
    reference: Measure | None = None
    limit: Measure | None = None
    floor: Measure | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured for one row: every figure of every side, and what was wanted."""

    name: str
    what: str
    unit: str
    more_is_better: bool
    figures: dict[str, list[float]]
    wanted_ratio: float | None = None
    wanted_of_limit: float | None = None
    bound: float | None = None

    def median(self, side: str) -> float | None:
        """Return the median of a side, None when it was not measured."""
        return median(self.figures[side]) if self.figures.get(side) else None

    def _times_better(self, than: str) -> float | None:
        ours, theirs = self.median("hyperfs"), self.median(than)
        if not ours or not theirs:
            return None
        return ours / theirs if self.more_is_better else theirs / ours

    @property
    def ratio(self) -> float | None:
        """How many times better than the reference."""
        return self._times_better("reference")

    @property
    def of_limit(self) -> float | None:
        """Which part of the limit is reached."""
        return self._times_better("limit")

    @property
    def of_floor(self) -> float | None:
        """Which part of the floor is reached: how much of what was measured is pyfuse3's and the kernel's."""
        return self._times_better("floor")

    @property
    def met(self) -> bool:
        """Whether everything that was wanted is reached."""
        wanted = ((self.ratio, self.wanted_ratio), (self.of_limit, self.wanted_of_limit))
        if any(want is not None and (have is None or have < want) for have, want in wanted):
            return False
        ours = self.median("hyperfs")
        return self.bound is None or (ours is not None and ours <= self.bound)

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is written to the JSON file."""
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "more_is_better": self.more_is_better,
            "hyperfs": self.median("hyperfs"),
            "reference": self.median("reference"),
            "limit": self.median("limit"),
            "floor": self.median("floor"),
            "ratio": self.ratio,
            "of_limit": self.of_limit,
            "of_floor": self.of_floor,
            "wanted_ratio": self.wanted_ratio,
            "wanted_of_limit": self.wanted_of_limit,
            "bound": self.bound,
            "met": self.met,
            "figures": self.figures,
        }

    def cells(self) -> list[str]:
        """Return the row as it is printed."""
        wanted = []
        if self.wanted_ratio is not None:
            wanted.append(f"{self.wanted_ratio:g}x")
        if self.wanted_of_limit is not None:
            wanted.append(f"{self.wanted_of_limit:g} of limit")
        if self.bound is not None:
            wanted.append(f"at most {self.bound:g}")
        return [
            self.what,
            self.unit,
            _number(self.median("hyperfs")),
            _number(self.median("reference")),
            "" if self.ratio is None else f"{self.ratio:.1f}x",
            _number(self.median("limit")),
            "" if self.of_limit is None else f"{self.of_limit:.2f}",
            _number(self.median("floor")),
            "" if self.of_floor is None else f"{self.of_floor:.2f}",
            ", ".join(wanted),
            "yes" if self.met else "NO",
        ]

    def summary(self) -> str:
        """Return the row in a few words."""
        ratio = "" if self.ratio is None else f", {self.ratio:.1f} times the reference"
        return f"{_number(self.median('hyperfs'))} {self.unit}{ratio}"


class Row(Protocol):
    """One line of the table."""

    @property
    def name(self) -> str:
        """How ``--only`` calls it."""
        ...

    def measure(self, workspace: Workspace, rounds: int) -> Result:
        """Do the work and return the figures."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row whose sides are measured alternately, each ``rounds`` times."""

    name: str
    what: str
    unit: str
    sides: Callable[[Workspace], AbstractContextManager[Sides]]
    more_is_better: bool = field(default=True, kw_only=True)
    wanted_ratio: float | None = field(default=None, kw_only=True)
    wanted_of_limit: float | None = field(default=None, kw_only=True)

    def measure(self, workspace: Workspace, rounds: int) -> Result:
        """Measure every side in turn, so that a machine that drifts does so for all of them."""
        figures: dict[str, list[float]] = {"hyperfs": [], "reference": [], "limit": [], "floor": []}
        with self.sides(workspace) as sides:
            for _ in range(rounds):
                for side, measure in (
                    ("reference", sides.reference),
                    ("limit", sides.limit),
                    ("floor", sides.floor),
                    ("hyperfs", sides.hyperfs),
                ):
                    if measure is not None:
                        os.sync()  # what the last one left to be written is not this one's work
                        figures[side].append(measure())
        return Result(
            self.name,
            self.what,
            self.unit,
            self.more_is_better,
            figures,
            self.wanted_ratio,
            self.wanted_of_limit,
        )


def format_table(results: list[Result]) -> str:
    """Return the table as text."""
    header = [
        "work",
        "unit",
        "hyperfs",
        "reference",
        "ratio",
        "limit",
        "of limit",
        "floor",
        "of floor",
        "wanted",
        "met",
    ]
    lines = [header, *(result.cells() for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (header, rule, *lines[1:])
    )


def _number(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
