"""How peers are found is said with a command, to a daemon that it starts and to one that runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.commands import Hyperfs, eventually, hyperfs_in

NODE = "127.0.0.1:1"


@pytest.fixture
def hyperfs(tmp_path: Path) -> Iterator[Hyperfs]:
    """A store for which the user's file has an option of the network."""
    with hyperfs_in(tmp_path) as hyperfs:
        folder = Path(hyperfs.environment["XDG_CONFIG_HOME"], "hyperfs")
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(f'bootstrap = ["{NODE}"]\n')
        yield hyperfs


def settings(hyperfs: Hyperfs) -> Any:
    return hyperfs.json("status")["network"]["settings"]


def test_a_daemon_is_told_by_files_when_it_is_started_and_by_options_while_it_runs(hyperfs: Hyperfs) -> None:
    key = hyperfs("create").strip()
    started = {"dht": False, "mdns": False, "bootstrap": [NODE], "port": None, "limit_up": 0, "limit_down": 0}
    assert settings(hyperfs) == started
    hyperfs("ls", key, "--dht", "--no-bootstrap", "--bootstrap", "127.0.0.1:2", "--port", "4001")
    changed = started | {"dht": True, "bootstrap": ["127.0.0.1:2"], "port": 4001}
    assert settings(hyperfs) == changed
    hyperfs("ls", key)
    assert settings(hyperfs) == changed, "what a file says is no news"
    hyperfs("--no-dht", "ls", key)
    assert settings(hyperfs) == changed | {"dht": False}


def test_a_daemon_in_the_foreground_takes_the_same_options(hyperfs: Hyperfs) -> None:
    with hyperfs.start("daemon", "--port", "4002") as daemon:
        eventually(lambda: hyperfs.daemon_pid == daemon.pid)
        chosen = settings(hyperfs)
        assert (chosen["port"], chosen["bootstrap"], chosen["dht"]) == (4002, [NODE], False)
        hyperfs("stop")
