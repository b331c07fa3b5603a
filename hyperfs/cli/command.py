"""What a command of hyperfs is to click: its options under headings, and what they are where nobody gives them.

The rule: an option that is not given on the command line is what the environment says, else the user's file, else the
machine's, else its default. That holds for every option of every command without its saying so: an option's long name
is the key in a file and, in capitals behind ``HYPERFS_``, the variable; in the file's table for one command, and with
the command's words in the variable, it is meant for that command alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from hyperfs.config import ConfigError, ConfigFile, read_config

if TYPE_CHECKING:
    from click.parser import _OptionParser

DAEMON: Final = "daemon"
"""The command whose options say how a daemon runs, also one that another command starts."""
_META: Final = "hyperfs.settings"
_NOWHERE: Final = click.Context(click.Command(None))
_PLAIN: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


class CommonOption(click.Option):
    """An option that many commands take, in the help below a heading of its own. ``of_daemon``: the daemon takes it."""

    def __init__(self, *arguments: Any, heading: str | None = None, of_daemon: bool = False, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.heading = heading
        self.of_daemon = of_daemon


class NameOrNumber(click.ParamType[int]):
    """What can be a number in a file as well as a text."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an option is that nobody gave, not converted yet; ``variable``, or ``file`` and ``keys``, say so."""

    value: Any
    table: str
    """The command, by its words, for which alone it is said; empty when it is for all."""
    variable: str | None = None
    file: ConfigFile | None = None
    keys: tuple[str, ...] = ()

    @property
    def line(self) -> int | None:
        """Where in the file it stands."""
        return None if self.file is None else self.file.line_of(*self.keys)

    @property
    def origin(self) -> str:
        """Where it is from, for a person to go to."""
        return f"${self.variable}" if self.file is None else f"{self.file.path}:{self.line}"


class Settings:
    """What environment and files say of the options of ``program``, whose own options are those that all may take."""

    def __init__(self, program: click.Group, files: Sequence[ConfigFile]) -> None:
        """Raises `ConfigError` for what means nothing in a file."""
        self.files = tuple(files)
        self.common = options_of(program)
        for file in self.files:
            _check(program, self.common, file)

    def find(self, words: Sequence[str], key: str, option: click.Option | None) -> Found | None:
        """Return what the option ``key`` of the command ``words`` is, None where nothing but its default holds.

        What is said for all commands is not meant for an ``option`` that a command has for itself by the same name.
        """
        tables = [" ".join(words)]
        if key in self.common and isinstance(option, CommonOption):
            tables += [DAEMON, ""] if option.of_daemon else [""]
        for table in tables:
            variable = variable_of(table, key)
            if os.environ.get(variable):
                return Found(os.environ[variable], table, variable)
        for file in self.files:
            for table in tables:
                values = file.values.get(table, {}) if table else file.values
                if key in values:
                    return Found(values[key], table, file=file, keys=(table, key) if table else (key,))
        return None

    def value(self, words: Sequence[str], key: str, option: click.Option) -> Any:
        """Return the value of an option that nobody gave, None where nothing but its default holds.

        Raises `ConfigError` for a variable of which the option makes nothing.
        """
        found = self.find(words, key, option)
        return None if found is None else self.convert(found, option)

    def convert(self, found: Found, option: click.Option) -> Any:
        """Return what was found as the option has it. Raises `ConfigError`."""
        split = found.variable is not None and option.multiple
        value = option.type.split_envvar_value(found.value) if split else found.value
        try:
            return option.type_cast_value(_NOWHERE, value)
        except click.BadParameter as error:
            raise ConfigError(f"{found.origin}: {error.message}") from None


class _Context(click.Context):
    """Asks the settings where the command line says nothing."""

    def lookup_default(self, name: str, call: bool = True) -> Any:
        """Return what environment or files say of an option. ``call`` is not set where only help is written."""
        if call and not self.resilient_parsing:
            for key, option in options_of(self.command).items():
                if option.name == name:
                    return settings_of(self).value(words_of(self), key, option)
        return None


class Command(click.Command):
    """A command whose options environment and files may set, and ``--no-OPTION`` take back."""

    context_class = _Context

    def make_parser(self, ctx: click.Context) -> _OptionParser:
        """Return the parser, to which ``--no-X`` is what ``--X`` is by itself, and ``--X`` the same of ``--no-X``."""
        return _with_opposites(super().make_parser(ctx), self)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those below headings of their own last."""
        _format_options(self, ctx, formatter)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def make_parser(self, ctx: click.Context) -> _OptionParser:
        """Return the parser, as a `Command` does."""
        return _with_opposites(super().make_parser(ctx), self)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options as a `Command` does, then the commands."""
        _format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def command(name: str | None = None, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a `Command` of a function; otherwise as `click.command`."""
    return click.command(name, cls=Command, **attributes)


def group(name: str | None = None, **attributes: Any) -> Callable[[Callable[..., Any]], Group]:
    """Make a `Group` of a function; otherwise as `click.group`."""
    return click.group(name, cls=Group, **attributes)


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Return the options that can be set elsewhere, by their long names."""
    options = [param for param in command.params if isinstance(param, click.Option) and param.expose_value]
    return {long: option for option in options for long in [_long_name(option)] if long}


def settings_of(ctx: click.Context) -> Settings:
    """Return what environment and files say, which is read once for each command. Raises `ConfigError`."""
    program = ctx.find_root().command
    assert isinstance(program, click.Group)
    settings: Settings | None = ctx.meta.get(_META)
    if settings is None:
        settings = ctx.meta[_META] = Settings(program, read_config())
    return settings


def words_of(ctx: click.Context) -> tuple[str, ...]:
    """Return the command's words, without the program's name."""
    return () if ctx.parent is None else (*words_of(ctx.parent), ctx.info_name or "")


def variable_of(table: str, key: str) -> str:
    """Return the environment variable of an option, of one command (its words) or of all (nothing)."""
    return "_".join(filter(None, ("HYPERFS", table, key))).replace(" ", "_").replace("-", "_").upper()


def default_of(option: click.Option) -> Any:
    """Return what an option is that nobody gave, environment and files not either."""
    if option.multiple:
        return ()
    if option.is_flag or option.count:
        return 0 if option.count else False
    return option.default if isinstance(option.default, str | int | float) else None


def kind_of(option: click.Option) -> type[bool | int | float | str]:
    """Return what an option, or each value in its list, is in a file."""
    if option.is_flag:
        return bool
    if option.count or isinstance(option.type, click.types.IntParamType):
        return int
    return float if isinstance(option.type, click.types.FloatParamType) else str


def commands_of(program: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that is not a group, with its words."""
    for name in program.list_commands(_NOWHERE):
        found = program.get_command(_NOWHERE, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from (((name, *words), inner) for words, inner in commands_of(found))
        else:
            yield (name,), found


def _long_name(option: click.Option) -> str | None:
    return next((name[2:] for name in option.opts if name.startswith("--")), None)


def _check(program: click.Group, common: dict[str, click.Option], file: ConfigFile) -> None:
    """Raise `ConfigError` for the first thing in a file that no option takes."""
    for key, value in file.values.items():
        if not isinstance(value, dict):
            _check_value(common, file, value, key)
            continue
        options = options_of(_command_of(program, file, key))
        for inner, inner_value in value.items():
            _check_value(options, file, inner_value, key, inner)


def _command_of(program: click.Group, file: ConfigFile, table: str) -> click.Command:
    """Return the command that a table is for. Raises `ConfigError`."""
    found: click.Command | None = program
    for word in table.split(" "):
        found = found.get_command(_NOWHERE, word) if isinstance(found, click.Group) else None
    if isinstance(found, click.Group):
        inner = found.list_commands(_NOWHERE)[0]
        raise file.wrong(f'`hyperfs {table}` is several commands: write ["{table} {inner}"] for one', table)
    if found is None:
        meant = _or_this(table, [" ".join(words) for words, _ in commands_of(program)])
        raise file.wrong(f"there is no command {table!r}{meant}", table)
    return found


def _check_value(options: dict[str, click.Option], file: ConfigFile, value: Any, *keys: str) -> None:
    option = options.get(keys[-1])
    if option is None:
        where = f"`hyperfs {keys[0]}` has no option" if len(keys) > 1 else "not every command has an option"
        raise file.wrong(f"{where} {keys[-1]!r}{_or_this(keys[-1], options)}", *keys)
    kind = kind_of(option)
    values = value if option.multiple and isinstance(value, list) else [value]
    if (option.multiple and not isinstance(value, list)) or not all(_fits(option, one) for one in values):
        wanted = f"a list, each {_PLAIN[kind]}" if option.multiple else _PLAIN[kind]
        wanted += " or a whole number" if isinstance(option.type, NameOrNumber) else ""
        raise file.wrong(f"{keys[-1]} is {wanted}", *keys)
    if isinstance(option.type, click.Path) and not value.startswith(("/", "~/")):
        raise file.wrong(
            f"{keys[-1]} is a path that begins with / or ~/: where a command is run is no place of a file's", *keys
        )
    try:
        option.type_cast_value(_NOWHERE, value)
    except click.BadParameter as error:
        raise file.wrong(f"{keys[-1]}: {error.message}", *keys) from None


def _fits(option: click.Option, value: Any) -> bool:
    kind = kind_of(option)
    takes_whole = kind is float or isinstance(option.type, NameOrNumber)
    return type(value) is kind or (takes_whole and type(value) is int)


def _or_this(word: str, words: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word, list(words), n=1)
    return f"; is {near[0]!r} meant?" if near else ""


def _with_opposites(parser: _OptionParser, command: click.Command) -> _OptionParser:
    taken = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for key, option in options_of(command).items():
        opposite = f"--{key[3:]}" if key.startswith("no-") else f"--no-{key}"
        if opposite not in taken and not option.required:
            default = default_of(option)
            const = list(default) if option.multiple else default  # what is given further behind is added to it
            parser.add_option(option, [opposite], option.name, action="store_const", const=const)
    return parser


def _format_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"Options": []}
    for param in command.get_params(ctx):
        record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
        if record is not None:
            heading = getattr(param, "heading", None) or "Options"
            sections.setdefault(heading, []).append(record)
    for heading, records in sections.items():
        with formatter.section(heading):
            formatter.write_dl(records)
