"""The commands' help, start and completion, without any store."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import hyperfs
from hyperfs.cli.main import cli

ROOT = Path(__file__).parents[2]
HEAVY = {"trio", "numpy", "nacl", "rich", "msgpack", "google.protobuf", "pyfuse3", "siphash24", "tomllib"}


def commands() -> list[tuple[str, ...]]:
    """Return every command and subcommand by its words."""
    found: list[tuple[str, ...]] = []
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, inner) for inner in command.list_commands(click.Context(command))]
    return found


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0
    assert f"hyperfs {words[0]}" in done.output.partition("Examples:")[2]


@pytest.mark.parametrize("words", [(), *commands()], ids=" ".join)
def test_help_fits_into_a_terminal_of_80_columns(words: tuple[str, ...]) -> None:
    output = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80).output
    assert [line for line in output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_list_of_commands_says_what_each_one_says_itself(words: tuple[str, ...]) -> None:
    listed = CliRunner().invoke(cli, ["--help"]).output
    assert words[0] in listed


def test_help_loads_nothing_heavy() -> None:
    loaded = python(
        "import sys\nfrom hyperfs.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\nprint('|' + ' '.join(sys.modules))"
    ).rpartition("|")[2]
    assert HEAVY.isdisjoint(loaded.split())


def test_help_of_a_command_loads_nothing_heavy() -> None:
    loaded = python(
        f"import sys\nfrom hyperfs.cli.main import main\nfor words in {commands()!r}:\n"
        f" try: main([*words, '--help'])\n except SystemExit: pass\n print('|', *words, {HEAVY!r} & sys.modules.keys())"
    )
    assert [line for line in loaded.splitlines() if line.startswith("|")] == [
        f"| {' '.join(words)} set()" for words in commands()
    ]


def test_where_no_file_is_none_is_read(without_settings: Path) -> None:
    loaded = python(
        "import sys\nfrom hyperfs.cli.main import main\n"
        f"try: main(['status', '--store', {str(without_settings / 'store')!r}])\n"
        "except SystemExit: pass\nprint('|' + ' '.join(sys.modules))"
    )
    assert "there is no store" in loaded
    assert "tomllib" not in loaded.rpartition("|")[2].split()


def test_numpy_starts_no_threads_in_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    threads = python(
        "import os\nfrom hyperfs.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
        "import numpy\nprint('|', *os.listdir('/proc/self/task'))"
    ).rpartition("|")[2]
    assert len(threads.split()) == 1


def test_version_is_the_packages() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"hyperfs {hyperfs.__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    assert "_HYPERFS_COMPLETE" in done.output


def test_a_script_for_an_unknown_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2


def test_a_shell_is_told_the_commands_that_begin_so() -> None:
    told = python(
        "from hyperfs.cli.main import main; main()",
        _HYPERFS_COMPLETE="bash_complete",
        COMP_WORDS="hyperfs um",
        COMP_CWORD="1",
    )
    assert told == "plain,umount\n"
