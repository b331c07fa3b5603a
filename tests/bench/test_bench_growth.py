"""The bench's rows of growth: a file may not become dearer with the number of files."""

from pathlib import Path

import pytest

from bench import writing_rows
from bench.workspace import Workspace
from bench.writing_rows import Growth


def costs_growing(monkeypatch: pytest.MonkeyPatch, power: float) -> None:
    monkeypatch.setattr(writing_rows, "_costs", lambda workspace, count: {"grows": 0.001 * count**power})


def test_work_in_proportion_to_the_files_meets_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs_growing(monkeypatch, 0)
    assert Growth("grows", "grow").measure(Workspace(tmp_path, quick=True), rounds=1).met


def test_quadratic_work_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs_growing(monkeypatch, 1)
    assert not Growth("grows", "grow").measure(Workspace(tmp_path, quick=True), rounds=1).met


def test_the_cost_at_each_size_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs_growing(monkeypatch, 1)
    result = Growth("grows", "grow").measure(Workspace(tmp_path, quick=True), rounds=1)
    assert result.what == "grow 100, 1,000, 10,000 files: 0.10, 1.00, 10.00 ms each"
