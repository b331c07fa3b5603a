"""The common options: before the command or behind it, and what they refuse."""

import json
from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner, Result

from hyperfs.cli.command import command, group
from hyperfs.cli.common import Common, before_commands, common_options
from hyperfs.cli.main import cli
from hyperfs.cli.mounts import Id
from hyperfs.cli.output import complain, tell
from hyperfs.cli.service import daemon
from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings
from hyperfs.errors import UsageError


@group()
@before_commands
def program() -> None:
    """Stand for hyperfs."""


@program.group()
@before_commands
def inner() -> None:
    """Stand for a group such as `hyperfs peer`."""


@program.command()
@common_options()
def show(common: Common) -> None:
    """Print the options as they arrived."""
    peers = ",".join(common.peers)
    click.echo(f"{common.store} {peers} {common.timeout_seconds:g} {common.verbosity} {common.json}")


@program.command()
@common_options()
def work(common: Common) -> None:
    """Say what is done, and what comes of it."""
    tell("working")
    complain("something is wrong")
    click.echo("result")


inner.add_command(show)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(program, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def refused(*arguments: str | Path) -> Result:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 2, done.output
    return done


ALL = ("--store", "/s", "--peer", "h:1", "--timeout", "5", "-v", "--json")
ARRIVED = "/s h:1 5 1 True"


@pytest.mark.parametrize("place", range(2))
def test_options_may_stand_before_or_behind_the_command(place: int) -> None:
    words = ["show"]
    words[place:place] = ALL
    assert run(*words) == ARRIVED


@pytest.mark.parametrize("place", range(3))
def test_options_may_stand_anywhere_around_a_group(place: int) -> None:
    words = ["inner", "show"]
    words[place:place] = ALL
    assert run(*words) == ARRIVED


def test_what_stands_behind_wins() -> None:
    assert run("--store", "/a", "--timeout", "5", "show", "--store", "/b", "--timeout", "6") == "/b  6 0 False"


def test_peers_of_both_places_are_meant() -> None:
    assert run("--peer", "h:1", "show", "--peer", "h:2", "--store", "/s") == "/s h:1,h:2 30 0 False"


def test_hyperfs_itself_takes_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["--store", str(tmp_path), "--json", "status"])
    assert json.loads(done.output)["store"] == str(tmp_path)


def test_json_of_a_command_that_prints_nothing_for_scripts_is_wrong_usage(tmp_path: Path) -> None:
    assert "--json" in refused("--json", "umount", tmp_path).output


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_what_is_no_time_to_wait_is_wrong_usage(seconds: str) -> None:
    assert "a number of seconds" in refused("ls", "ab" * 32, "--timeout", seconds).output


def test_a_store_is_not_imported_by_accident(tmp_path: Path) -> None:
    (tmp_path / "backup/.hyperfs").mkdir(parents=True)
    (tmp_path / "store/inside").mkdir(parents=True)
    (tmp_path / "store/.hyperfs").mkdir()
    own = ("--store", tmp_path / "store")
    assert "--with-secrets" in refused("import", *own, tmp_path / "backup").output
    for folder in ("store", "store/inside"):
        assert "would be imported into" in refused("import", *own, tmp_path / folder, "--with-secrets").output


KEY = "ab" * 32


@pytest.mark.parametrize(
    "into", ["../x", "a/../../x", "n" * 256, "/".join(["n" * 255] * 17)], ids=lambda into: into[:9]
)
def test_what_is_no_path_of_a_drive_is_not_imported_into(tmp_path: Path, into: str) -> None:
    (tmp_path / "source").mkdir()
    for where in (("--into", into), (f"{KEY}/{into}",), (f"{KEY}/a", "--into", into)):
        done = refused("import", "--store", tmp_path / "store", tmp_path / "source", *where)
        assert "nothing can be imported into" in done.output
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["check"],
        ["diff", "1"],
        ["fork"],
        ["key", "export"],
        ["log"],
        ["prune", "--keep", "1"],
        ["serve"],
        ["tag", "v1"],
        ["unserve"],
    ],
    ids=" ".join,
)
def test_a_path_where_a_whole_drive_is_meant_is_wrong_usage(words: list[str]) -> None:
    command = words[:2] if words[0] == "key" else words[:1]
    assert "leave out /photos" in refused(*command, f"{KEY}/photos", *words[len(command) :]).output


@pytest.mark.parametrize(
    "words",
    [
        ["cache"],
        ["cat", KEY, "file"],
        ["check", KEY],
        ["clear", KEY],
        ["diff", KEY, "1"],
        ["export", KEY, "copy"],
        ["fork", KEY],
        ["fork", KEY, "--keep-theirs"],
        ["info", KEY],
        ["key", "export", KEY],
        ["log", KEY],
        ["ls", KEY, "--peer", "127.0.0.1:1"],
        ["peer", "remove", "127.0.0.1:1"],
        ["prune", KEY, "--keep", "1"],
        ["stat", KEY],
        ["tag", KEY],
        ["umount", "nowhere"],
        ["unserve", KEY],
    ],
    ids=lambda words: " ".join(words).replace(KEY, "KEY"),
)
def test_what_only_looks_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["--store", str(tmp_path / "mistyped"), *words])
    assert isinstance(done.exception, UsageError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["status"], ["stop"], ["peer", "list"]], ids=" ".join)
def test_what_asks_a_daemon_that_runs_makes_no_store_either(tmp_path: Path, words: list[str]) -> None:
    assert CliRunner().invoke(cli, ["--store", str(tmp_path / "mistyped"), *words]).exit_code == 0
    assert list(tmp_path.iterdir()) == []


@command()
@common_options()
def network(common: Common) -> None:
    """Print how a daemon would be started, what one that runs is told, and when the first ends."""
    click.echo(f"{common.network} {common.network_change} {common.idle_seconds}")


program.add_command(network)
program.add_command(daemon)
NODES = ("--bootstrap", "a:1", "--bootstrap", "b:2")


@pytest.mark.parametrize(
    ("arguments", "settings", "change"),
    [
        ((), NetworkSettings(), NetworkChange()),
        (("--no-dht",), NetworkSettings(dht=False), NetworkChange(dht=False)),
        (("--dht", "--no-mdns"), NetworkSettings(mdns=False), NetworkChange(dht=True, mdns=False)),
        (NODES, NetworkSettings(bootstrap=("a:1", "b:2")), NetworkChange(bootstrap=("a:1", "b:2"))),
        (("--no-bootstrap",), NetworkSettings(), NetworkChange(bootstrap=())),
        (("--port", "4000"), NetworkSettings(port=4000), NetworkChange(port=4000)),
        (("--limit-up", "1.5M/s"), NetworkSettings(limit_up=3 << 19), NetworkChange(limit_up=3 << 19)),
        (("--limit-down", "none"), NetworkSettings(), NetworkChange(limit_down=0)),
    ],
)
@pytest.mark.parametrize("place", range(2))
def test_how_peers_are_found_is_said_to_a_daemon(
    place: int, arguments: tuple[str, ...], settings: NetworkSettings, change: NetworkChange
) -> None:
    words = ["network"]
    words[place:place] = arguments
    assert run(*words) == f"{settings} {change} None"


def test_what_a_file_or_a_variable_says_of_peers_is_no_news_to_a_daemon_that_runs(
    without_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = without_settings / "hyperfs/config.toml"
    path.parent.mkdir()
    path.write_text('no-mdns = true\nbootstrap = ["a:1"]\n[daemon]\nport = 4000\nidle = 9\n')
    monkeypatch.setenv("HYPERFS_NO_DHT", "1")
    settings = NetworkSettings(dht=False, mdns=False, bootstrap=("a:1",), port=4000)
    assert run("network") == f"{settings} {NetworkChange()} 9.0"


def test_a_limit_that_lets_nothing_through_is_wrong_usage() -> None:
    assert "write none" in refused("ls", "ab" * 32, "--limit-up", "0").output


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_what_is_no_port_is_wrong_usage(port: str) -> None:
    assert "port" in refused("ls", "ab" * 32, "--port", port).output


@pytest.mark.parametrize("rate", ["fast", "-1", "1X"])
def test_what_is_no_rate_is_wrong_usage(rate: str) -> None:
    assert "rate" in refused("ls", "ab" * 32, "--limit-up", rate).output


def test_only_commands_that_ask_peers_say_in_their_help_how_they_are_found() -> None:
    for words, is_said in {("ls",): True, ("daemon",): True, ("create",): False, ("status",): False}.items():
        output = CliRunner().invoke(cli, [*words, "--help"]).output
        assert ("Finding peers:" in output) == ("--bootstrap" in output) == is_said


@pytest.mark.parametrize(("text", "number"), [("33", 33), ("root", 0), ("0", 0)])
@pytest.mark.parametrize("kind", ["user", "group"])
def test_a_user_or_group_is_a_number_or_a_name(kind: Literal["user", "group"], text: str, number: int) -> None:
    assert Id(kind).convert(text, None, None) == number


@pytest.mark.parametrize("text", ["nobody-of-this-name", "-1", "4294967295", ""])
def test_who_is_no_user_is_wrong_usage(tmp_path: Path, text: str) -> None:
    assert repr(text) in refused("mount", KEY, tmp_path, "--uid", text).output


@pytest.mark.parametrize(
    ("text", "address"), [("h", "h:3282"), ("h:1", "h:1"), ("[::1]", "[::1]:3282"), ("[::1]:1", "[::1]:1")]
)
def test_a_peer_listens_at_the_usual_port_unless_told(text: str, address: str) -> None:
    assert run("show", "--store", "/s", "--peer", text).split()[1] == address


@pytest.mark.parametrize("text", ["", "h:", "h:x", ":1", "::1", "[::1"])
def test_what_is_no_address_of_a_peer_is_wrong_usage(text: str) -> None:
    assert "is not an address" in refused("ls", KEY, "--peer", text).output


@pytest.mark.parametrize(("typed", "meant"), [("mont", "mount"), ("unmount", "umount"), ("imprt", "import")])
def test_a_command_that_is_mistyped_is_answered_with_what_may_be_meant(typed: str, meant: str) -> None:
    assert f"did you mean {meant}" in refused(typed, "x").output


def test_what_resembles_no_command_is_just_none() -> None:
    assert refused("xyzzy").output.endswith("there is no command 'xyzzy'\n")


@pytest.mark.parametrize("words", [("work", "-q"), ("--quiet", "work")])
def test_who_asks_for_quiet_gets_results_and_errors(words: tuple[str, ...]) -> None:
    assert run("work").splitlines() == ["working", "hyperfs: something is wrong", "result"]
    assert run(*words).splitlines() == ["hyperfs: something is wrong", "result"]


def test_who_asks_for_more_is_not_quiet() -> None:
    assert "working" in run("work", "-q", "-v")
