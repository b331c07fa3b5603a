"""The bench's table: ratios say how many times better hyperfs is, and a missed target is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.table import Comparison, Result, Sides, format_table
from bench.workspace import Workspace


def result(*, ours: float, theirs: float, limit: float | None = None, more_is_better: bool, **wanted: float) -> Result:
    figures = {"hyperfs": [ours], "reference": [theirs], "limit": [] if limit is None else [limit]}
    return Result("name", "what", "unit", more_is_better, figures, **wanted)


def test_of_rates_the_higher_is_better() -> None:
    assert result(ours=300, theirs=100, more_is_better=True).ratio == 3


def test_of_times_the_lower_is_better() -> None:
    assert result(ours=0.5, theirs=2, more_is_better=False).ratio == 4


def test_a_part_of_the_limit() -> None:
    assert result(ours=500, theirs=1, limit=1000, more_is_better=True).of_limit == 0.5


@pytest.mark.parametrize(("ours", "met"), [(300, True), (299, False)])
def test_a_ratio_is_met_from_the_wanted_one_on(ours: float, met: bool) -> None:
    assert result(ours=ours, theirs=100, more_is_better=True, wanted_ratio=3).met is met


@pytest.mark.parametrize(("ours", "met"), [(250, True), (251, False)])
def test_a_bound_is_met_up_to_it(ours: float, met: bool) -> None:
    assert result(ours=ours, theirs=1, more_is_better=False, bound=250).met is met


def test_a_target_without_a_figure_is_missed() -> None:
    figures: dict[str, list[float]] = {"hyperfs": [1], "reference": []}
    assert not Result("name", "what", "unit", True, figures, wanted_ratio=1).met


def test_sides_are_measured_alternately(tmp_path: Path) -> None:
    order = []

    @contextmanager
    def sides(workspace: Workspace) -> Iterator[Sides]:
        yield Sides(hyperfs=lambda: order.append("ours") or 2.0, reference=lambda: order.append("theirs") or 1.0)

    Comparison("name", "what", "unit", sides).measure(Workspace(tmp_path, quick=True), rounds=2)
    assert order == ["theirs", "ours", "theirs", "ours"]


def test_the_table_has_a_line_a_row() -> None:
    table = format_table([result(ours=1234.5, theirs=100, more_is_better=True, wanted_ratio=20)])
    assert table.splitlines()[2].split() == ["what", "unit", "1,234", "100", "12.3x", "20x", "NO"]
