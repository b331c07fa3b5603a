"""``python -m bench.dht`` simulates a network and says what it found."""

import json
import sys
from pathlib import Path

import pytest

from bench import dht


def test_lookups_of_a_small_network_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--nodes", "24", "--minutes", "0.2", "--half-life", "2", "--json", str(figures)]
    monkeypatch.setattr(sys, "argv", ["bench.dht", *arguments])
    assert dht.main() == 0
    found = json.loads(figures.read_text())
    assert found["quiet"]["found"] == found["quiet"]["lookups"] == 200
    assert "quiet" in capsys.readouterr().out
