"""What holds for every test here: nothing that the machine or its user has set reaches the commands."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take away what the environment sets; return a configuration home that is empty."""
    for name in [name for name in os.environ if name.startswith("HYPERFS_")]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("config-home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setattr("hyperfs.config.SYSTEM_PATH", home / "etc/config.toml")
    return home
