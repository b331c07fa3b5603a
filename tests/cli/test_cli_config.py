"""What `hyperfs config` shows: each option, and who says so."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hyperfs.cli.main import cli
from hyperfs.config import ConfigError

TEXT = """\
timeout = 12
[mount]
flush-interval = 3
umask = "022"
uid = 1000
gid = "root"
["key export"]
passphrase = true
"""


@pytest.fixture
def user(without_settings: Path) -> Path:
    """The user's file, with something in it."""
    path = without_settings / "hyperfs/config.toml"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments)
    if done.exception is not None:
        raise done.exception
    return done.output


def rows(*arguments: str) -> dict[str, list[str]]:
    lines = [line.split("\t") for line in run("config", *arguments).splitlines()]
    return {name: rest for name, *rest in lines}


def test_each_value_is_shown_with_its_origin(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFS_STORE", "/drives")
    monkeypatch.setenv("HYPERFS_PEER", "a:1 b:2")
    monkeypatch.setenv("HYPERFS_LS_TIMEOUT", "5")
    shown = rows()
    assert shown["timeout"] == [f"{user}:1", "12"]
    assert shown["mount.flush-interval"] == [f"{user}:3", "3"]
    assert shown["mount.umask"] == [f"{user}:4", "022"]
    assert shown['"key export".passphrase'] == [f"{user}:8", "true"]
    assert shown["mount.uid"] == [f"{user}:5", "1000"]
    assert shown["mount.gid"] == [f"{user}:6", "root"]
    assert shown["store"] == ["$HYPERFS_STORE", "/drives"]
    assert shown["peer"] == ["$HYPERFS_PEER", "a:1 b:2"]
    assert shown["ls.timeout"] == ["$HYPERFS_LS_TIMEOUT", "5"]
    assert shown["json"] == ["default", "false"]
    assert "mount.links" not in shown


def test_all_shows_what_nobody_has_set_for_single_commands(user: Path) -> None:
    assert rows("--all")["mount.links"] == ["default", "confined"]


def test_what_a_command_has_for_itself_is_not_what_others_have_by_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFS_BOOTSTRAP", "a:1")
    monkeypatch.setenv("HYPERFS_DAEMON_BOOTSTRAP", "b:2")
    shown = rows("--all")
    assert shown["bootstrap"] == ["$HYPERFS_BOOTSTRAP", "a:1"]
    assert shown["daemon.bootstrap"] == ["$HYPERFS_DAEMON_BOOTSTRAP", "b:2"]
    assert shown["dht.bootstrap"] == ["default", ""]


def test_the_default_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert rows()["store"] == ["default", "/data/hyperfs"]


def test_scripts_get_files_and_options(user: Path) -> None:
    shown = json.loads(run("config", "--json"))
    assert [(file["of"], file["there"]) for file in shown["files"]] == [("user", True), ("system", False)]
    options = {(one["command"], one["option"]): one for one in shown["options"]}
    assert options["mount", "flush-interval"] == {
        "command": "mount",
        "option": "flush-interval",
        "value": 3.0,
        "source": "file",
        "file": str(user),
        "line": 3,
        "variable": None,
    }
    assert options[None, "json"]["source"] == "default"


def test_a_terminal_of_80_columns_is_wide_enough(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("HYPERFS_MOUNT_ALLOW_OTHER", "yes")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    lines = run("config", "--all").splitlines()
    assert lines[0] == f"user    {user}"
    assert lines[1].endswith("config.toml  (not there)")
    table = lines[3:]
    assert max(map(len, table)) <= 80
    assert any(line.split() == ["mount.allow-other", "$HYPERFS_MOUNT_ALLOW_OTHER", "true"] for line in table)
    assert any(line.split() == ["mount.umask", "user,", "line", "4", "022"] for line in table)


def test_the_path_is_told_whatever_the_file_holds(user: Path) -> None:
    user.write_text("wrong")
    assert run("config", "--path") == f"{user}\n"
    with pytest.raises(ConfigError, match=f"{user}:1: this is not TOML"):
        run("config")
