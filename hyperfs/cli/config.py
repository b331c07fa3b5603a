"""``config``: what options are where nobody gives them, and who says so."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click

from hyperfs.cli.command import (
    CommonOption,
    Found,
    Settings,
    command,
    commands_of,
    default_of,
    kind_of,
    options_of,
    settings_of,
)
from hyperfs.cli.common import Common, common_options, examples
from hyperfs.cli.output import print_json, print_table
from hyperfs.errors import UsageError


@dataclass(frozen=True, slots=True)
class _Row:
    """One option: of the command ``table``, or of all when that is empty."""

    table: str
    key: str
    value: Any
    found: Found | None

    @property
    def name(self) -> str:
        """The key as it is written in a file."""
        table = f'"{self.table}"' if " " in self.table else self.table
        return f"{table}.{self.key}" if table else self.key


def _print_path(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    """Print where the user's file belongs, whatever stands in it."""
    if value and not ctx.resilient_parsing:
        from hyperfs.config import user_path

        path = user_path()
        if path is None:
            raise UsageError("no home folder is known here: name one in XDG_CONFIG_HOME")
        click.echo(path)
        ctx.exit()


@command(
    epilog=examples(
        "hyperfs config",
        "hyperfs config --all                  the defaults of every command, too",
        '$EDITOR "$(hyperfs config --path)"',
        "HYPERFS_TIMEOUT=60 hyperfs config     a variable counts more than a file",
    )
)
@click.option("-a", "--all", "shows_all", is_flag=True, help="Show also what commands have for themselves by default.")
@click.option(
    "--path",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_path,
    help="Only print which file is yours to write.",
)
@common_options(network=False)
def config(common: Common, shows_all: bool) -> None:
    """Show what options are when a command is not given them, and where that is from.

    An option is what the environment says, else your file, else the machine's, else its default. In a file its key is
    its long name, for all commands that take it or in a table for one, as in `[mount]`; an environment variable is
    called HYPERFS_TIMEOUT, or HYPERFS_MOUNT_TIMEOUT for one command.
    """
    from hyperfs.config import SYSTEM_PATH, user_path
    from hyperfs.daemon.places import default_store

    ctx = click.get_current_context()
    settings = settings_of(ctx)
    program = ctx.find_root().command
    assert isinstance(program, click.Group)
    rows = [
        row if row.key != "store" or row.value is not None else _Row("", "store", str(default_store()), None)
        for row in _rows(program, settings)
        if shows_all or row.found is not None or not row.table
    ]
    places = {"user": user_path(), "system": SYSTEM_PATH}
    paths = {of: path for of, path in places.items() if path is not None}
    if common.json:
        there = {file.path for file in settings.files}
        print_json(
            {
                "files": [{"of": of, "path": str(path), "there": path in there} for of, path in paths.items()],
                "options": [_fields(row) for row in rows],
            }
        )
        return
    if sys.stdout.isatty():
        for of, path in paths.items():
            missing = "" if any(file.path == path for file in settings.files) else "  (not there)"
            click.echo(f"{of:6}  {path}{missing}")
        click.echo()
    names = {path: of for of, path in paths.items()} if sys.stdout.isatty() else {}
    print_table(("option", "from", "value"), [(row.name, _origin(row, names), _text(row.value)) for row in rows])


def _rows(program: click.Group, settings: Settings) -> Iterator[_Row]:
    """Yield the options of all commands, then what single commands have or are told for themselves."""
    for key, option in settings.common.items():
        yield _row(settings, "", key, option)
    for words, one in commands_of(program):
        table = " ".join(words)
        for key, option in options_of(one).items():
            row = _row(settings, table, key, option)
            is_own = key not in settings.common or not isinstance(option, CommonOption)
            if is_own or (row.found is not None and row.found.table == table):
                yield row


def _row(settings: Settings, table: str, key: str, option: click.Option) -> _Row:
    found = settings.find(table.split(), key, option)
    if found is None:
        return _Row(table, key, default_of(option), None)
    value = settings.convert(found, option)
    as_written = kind_of(option) is str and not option.multiple
    return _Row(table, key, found.value if as_written else value, found)


def _fields(row: _Row) -> dict[str, Any]:
    found = row.found
    source = "default" if found is None else "environment" if found.file is None else "file"
    return {
        "command": row.table or None,
        "option": row.key,
        "value": row.value,
        "source": source,
        "file": str(found.file.path) if found is not None and found.file is not None else None,
        "line": None if found is None else found.line,
        "variable": None if found is None else found.variable,
    }


def _origin(row: _Row, names: dict[Any, str]) -> str:
    found = row.found
    if found is None:
        return "default"
    name = names.get(found.file.path) if found.file else None
    return f"{name}, line {found.line}" if name else found.origin


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
