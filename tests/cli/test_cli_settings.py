"""Options that nobody gives: what the environment says of them, the user's file, the machine's."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from hyperfs.cli.command import Group, command, commands_of, group, options_of, variable_of
from hyperfs.cli.common import Common, before_commands, common_options
from hyperfs.cli.main import cli
from hyperfs.config import ConfigError


@group(context_settings={"help_option_names": ["-h", "--help"]})
@before_commands
def program() -> None:
    """Stand for hyperfs."""


@command()
@click.option("--often", type=click.IntRange(1, 9))
@click.option("--rate", type=float, default=2.0, show_default=True)
@click.option("-t", "--thorough", "looks_at_all", is_flag=True)
@click.option("--only", multiple=True)
@click.option("--way", type=click.Choice(["up", "down"]), default="up")
@common_options(json=False)
def work(common: Common, **given: Any) -> None:
    """Print what was given."""
    click.echo(f"{common.timeout_seconds:g} {given}")


@group()
def inner() -> None:
    """Stand for a group such as `hyperfs key`."""


@command()
@click.option("--deep", is_flag=True)
@common_options(network=False)
def dive(common: Common, deep: bool) -> None:
    """Print what was given."""
    click.echo(f"{common.timeout_seconds:g} {common.peers} {common.json} {deep}")


program.add_command(work)
program.add_command(inner)
inner.add_command(dive)


def run(*arguments: str, by: Group = program) -> str:
    done = CliRunner().invoke(by, arguments)
    if done.exception is not None:
        raise done.exception
    return done.output.strip()


def given(**expected: Any) -> str:
    timeout = expected.pop("timeout", 30)
    nothing = {"often": None, "rate": 2.0, "looks_at_all": False, "only": (), "way": "up"}
    return f"{timeout} {nothing | expected}"


@pytest.fixture
def user(without_settings: Path) -> Path:
    """The user's file."""
    path = without_settings / "hyperfs/config.toml"
    path.parent.mkdir()
    return path


@pytest.fixture
def machine(without_settings: Path) -> Path:
    """The machine's file."""
    path = without_settings / "etc/config.toml"
    path.parent.mkdir()
    return path


def test_without_any_a_default_holds() -> None:
    assert run("work") == given()


def test_a_file_says_what_nobody_gave(user: Path) -> None:
    user.write_text('timeout = 5\n[work]\noften = 3\nrate = 1\nthorough = true\nonly = ["a", "b c"]\nway = "down"\n')
    assert run("work") == given(timeout=5, often=3, rate=1.0, looks_at_all=True, only=("a", "b c"), way="down")


def test_the_users_file_overrides_the_machines(user: Path, machine: Path) -> None:
    machine.write_text("[work]\noften = 1\nthorough = true\n")
    user.write_text("[work]\noften = 2\n")
    assert run("work") == given(often=2, looks_at_all=True)


def test_what_the_user_says_of_all_commands_overrides_what_the_machine_says_of_one(user: Path, machine: Path) -> None:
    machine.write_text("[work]\ntimeout = 1\n")
    user.write_text("timeout = 2\n")
    assert run("work") == given(timeout=2)


def test_what_is_said_of_one_command_overrides_what_is_said_of_all(user: Path) -> None:
    user.write_text('timeout = 1\n[work]\ntimeout = 2\n["inner dive"]\ndeep = true\n')
    assert run("work") == given(timeout=2)
    assert run("inner", "dive") == "1 () False True"


def test_the_environment_overrides_files(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user.write_text('timeout = 1\n[work]\noften = 1\nonly = ["a"]\nthorough = true\n')
    for name, value in {"TIMEOUT": "2", "WORK_OFTEN": "2", "WORK_ONLY": "b c", "WORK_THOROUGH": "no"}.items():
        monkeypatch.setenv(f"HYPERFS_{name}", value)
    assert run("work") == given(timeout=2, often=2, only=("b", "c"))


def test_an_empty_variable_says_nothing(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user.write_text("timeout = 1\n")
    monkeypatch.setenv("HYPERFS_TIMEOUT", "")
    assert run("work") == given(timeout=1)


def test_a_variable_may_be_meant_for_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFS_TIMEOUT", "1")
    monkeypatch.setenv("HYPERFS_INNER_DIVE_TIMEOUT", "2")
    monkeypatch.setenv("HYPERFS_INNER_DIVE_DEEP", "1")
    assert run("inner", "dive") == "2 () False True"
    assert run("work") == given(timeout=1)


@pytest.mark.parametrize("before", [("--timeout", "3"), ()])
def test_an_option_overrides_everything_wherever_it_stands(
    before: tuple[str, ...], user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.write_text("[work]\ntimeout = 1\noften = 1\n")
    monkeypatch.setenv("HYPERFS_WORK_TIMEOUT", "2")
    behind = () if before else ("--timeout", "3")
    assert run(*before, "work", *behind, "--often", "4") == given(timeout=3, often=4)


def test_what_a_file_says_is_taken_back_by_an_option(user: Path) -> None:
    user.write_text('peer = ["h:1"]\n[work]\noften = 3\nrate = 1\nthorough = true\nonly = ["a"]\nway = "down"\n')
    back = ["--no-often", "--no-rate", "--no-thorough", "--no-only", "--no-way"]
    assert run("work", *back) == given()
    assert run("work", *back, "--only", "b") == given(only=("b",))
    assert run("inner", "dive") == "30 ('h:1',) False False"


def test_what_a_command_does_not_take_holds_for_it_all_the_same(user: Path) -> None:
    user.write_text('peer = ["h:1"]\ntimeout = 7\njson = true\n')
    assert run("inner", "dive") == "7 ('h:1',) True False"
    assert run("work") == given(timeout=7)


def test_help_needs_no_file_to_be_right(user: Path) -> None:
    user.write_text("wrong")
    assert "[default: 2.0]" in run("work", "--help")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("timeuot = 5", "1: not every command has an option 'timeuot'; is 'timeout' meant?"),
        ("often = 5", "1: not every command has an option 'often'"),
        ("\n[work]\noftn = 5", "3: `hyperfs work` has no option 'oftn'; is 'often' meant?"),
        ("[work]\nhelp = true", "2: `hyperfs work` has no option 'help'"),
        ("[wrok]\noften = 5", "1: there is no command 'wrok'; is 'work' meant?"),
        ("[inner.dive]\ndeep = true", '1: `hyperfs inner` is several commands: write ["inner dive"] for one'),
        ("[work]\nrate = 1\noften = 10", "3: often: 10 is not in the range 1<=x<=9."),
        ("[work]\noften = true", "2: often is a whole number"),
        ("[work]\noften = 2.0", "2: often is a whole number"),
        ('[work]\nrate = "1"', "2: rate is a number"),
        ("[work]\nthorough = 1", "2: thorough is true or false"),
        ('[work]\nonly = "a"', "2: only is a list, each a text in quotes"),
        ("[work]\nonly = [\n  'a', 1]", "2: only is a list, each a text in quotes"),
        ("[work]\nway = 'left'", "2: way: 'left' is not one of 'up', 'down'."),
        ("[work]\noften = { a = 1 }", "2: often is a whole number"),
        ("peer = ['h:']", "1: peer: 'h:' is not an address"),
        ("store = 'drives'", "1: store is a path that begins with / or ~/"),
        ("timeout = -1", "1: timeout: -1 is not a time to wait"),
    ],
)
def test_what_means_nothing_in_a_file_is_told_with_its_line(text: str, problem: str, machine: Path) -> None:
    machine.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run("inner", "dive")
    assert str(caught.value).startswith(f"{machine}:{problem}")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("HYPERFS_TIMEOUT", "soon", "'soon' is not a number of seconds"),
        ("HYPERFS_WORK_OFTEN", "10", "10 is not in the range"),
        ("HYPERFS_WORK_THOROUGH", "perhaps", "'perhaps' is not a valid boolean"),
        ("HYPERFS_PEER", "h:1 h:", "'h:' is not an address"),
    ],
)
def test_what_means_nothing_in_the_environment_is_told_with_its_name(
    name: str, value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        run("work")
    assert str(caught.value).startswith(f"${name}: {problem}")


def test_no_two_options_have_the_same_variable_and_no_table_is_called_like_an_option() -> None:
    common = options_of(cli)
    tables = {" ".join(words): options_of(command) for words, command in commands_of(cli)}
    variables = [variable_of(table, key) for table, options in ({"": common} | tables).items() for key in options]
    assert len(set(variables)) == len(variables)
    assert not tables.keys() & common.keys()


def test_a_store_can_be_named_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFS_STORE", str(tmp_path / "drives"))
    assert run("status", by=cli) == f"there is no store at {tmp_path}/drives"


def test_the_file_that_the_guide_shows_is_one(user: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/guide.md").read_text()
    user.write_text(text.partition("```toml\n")[2].partition("```")[0])
    shown = run("config", by=cli).splitlines()
    assert [f"no-dht\t{user}:3\ttrue" in shown, f'"key export".passphrase\t{user}:11\ttrue' in shown] == [True, True]
