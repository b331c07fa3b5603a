"""What the commands share: options, kinds of arguments, and the edge where errors become words and exit statuses.

The rule: status 0 is success, 1 failure, 2 wrong usage; a person sees one line that says what to do, and a traceback
only with ``-v``. Nothing heavy is imported here.
"""

import errno
import functools
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from hyperfs.cli.output import complain
from hyperfs.errors import HyperfsError, InvalidKey, NoDaemon, UsageError

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.keys import DriveAddress

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command takes."""

    store: Path
    peers: tuple[str, ...]
    timeout_seconds: float
    verbosity: int
    json: bool


class DriveParameter(click.ParamType["DriveAddress"]):
    """A drive: a key in any form, or ``dat://NAME``, with ``+VERSION`` or ``+TAG`` behind it where ``versioned``."""

    name = "key"

    def __init__(self, *, versioned: bool) -> None:
        self._versioned = versioned

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "DriveAddress":
        """Parse the text; fail as wrong usage with what is wrong."""
        from hyperfs.keys import DriveAddress, parse_address, split_name

        if isinstance(value, DriveAddress):
            return value
        named = split_name(value)
        try:
            if named is None:
                address = parse_address(value)
            else:
                from hyperfs.cli.names import key_of_name

                address = parse_address(key_of_name(named[0]).hex() + named[1])
        except InvalidKey as error:
            self.fail(str(error), param, ctx)
        if not self._versioned and (address.version is not None or address.tag is not None):
            self.fail(f"{value!r} names a version, where only a key is meant", param, ctx)
        return address


class PeerParameter(click.ParamType[str]):
    """An address, ``HOST:PORT``."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text; fail as wrong usage with what is wrong."""
        from hyperfs.daemon.addresses import format_address, parse_address

        try:
            return format_address(*parse_address(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class SecondsParameter(click.ParamType[float]):
    """A time limit, more than nothing and less than for ever."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the number; fail as wrong usage with what is wrong."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < seconds < float("inf"):
            self.fail(f"{value!r} is not a time to wait: write a number of seconds above 0", param, ctx)
        return seconds


DEFAULT_TIMEOUT_SECONDS = 30.0
DRIVE = DriveParameter(versioned=False)
VERSIONED_DRIVE = DriveParameter(versioned=True)
PEER = PeerParameter()


@dataclass(frozen=True, slots=True)
class _Given:
    """Common options as far as they were given; ``and_then`` adds those that stand further behind."""

    store: Path | None = None
    peer: tuple[str, ...] = ()
    timeout: float | None = None
    verbose: int = 0
    as_json: bool = False

    def and_then(self, later: "_Given") -> "_Given":
        return _Given(
            later.store or self.store,
            self.peer + later.peer,
            self.timeout if later.timeout is None else later.timeout,
            self.verbose + later.verbose,
            self.as_json or later.as_json,
        )


def common_options(*, json: bool = True, network: bool = True) -> Callable[[Function], Function]:
    """Give a command the common options; it gets them as one `Common`, its first argument.

    They may stand before the command, too: see `before_commands`.
    """

    def decorate(function: Function) -> Function:
        def command(given: _Given, **arguments: Any) -> Any:
            from hyperfs.daemon.places import default_store

            if given.as_json and not json:
                raise click.UsageError("this command prints nothing for scripts: leave out --json")
            timeout = DEFAULT_TIMEOUT_SECONDS if given.timeout is None else given.timeout
            store = given.store or default_store()
            return function(Common(store, given.peer, timeout, given.verbose, given.as_json), **arguments)

        return _with_options(command, function, json=json, network=network)

    return decorate


def before_commands(function: Function) -> Function:
    """Let a group take the common options on behalf of its commands."""

    def group(given: _Given, **arguments: Any) -> Any:
        click.get_current_context().obj = given
        return function(**arguments)

    return _with_options(group, function, json=True, network=True)


def _with_options(wrapper: Callable[..., Any], function: Function, *, json: bool, network: bool) -> Function:
    """Return ``wrapper`` dressed as ``function``; its first argument are the options given here and before."""

    @functools.wraps(function)
    def command(
        store: Path | None,
        verbose: int,
        peer: tuple[str, ...] = (),
        timeout: float | None = None,
        as_json: bool = False,
        **arguments: Any,
    ) -> Any:
        before = click.get_current_context().obj or _Given()
        return wrapper(before.and_then(_Given(store, peer, timeout, verbose, as_json)), **arguments)

    options = [
        click.option(
            "--store",
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="Where drives are kept.  [default: $HYPERFS_STORE, or hyperfs in the XDG data home]",
        ),
        click.option("-v", "--verbose", count=True, help="Say more; tracebacks of errors; twice: everything."),
    ]
    if network:
        options += [
            click.option(
                "--peer",
                metavar="HOST:PORT",
                multiple=True,
                type=PEER,
                help="Connect to this peer. Can be given several times.",
            ),
            click.option(
                "--timeout",
                metavar="SECONDS",
                type=SecondsParameter(),
                help="How long to wait for a peer to send something before giving up.  "
                f"[default: {DEFAULT_TIMEOUT_SECONDS:g}]",
            ),
        ]
    if json:
        options.append(click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts."))
    decorated: Any = command
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep what they decorate


def follow_option(help: str) -> Callable[[Function], Function]:
    """Give a command ``-L``, its argument ``follow_links``."""
    return click.option("-L", "--dereference", "follow_links", is_flag=True, help=help)


def path_in_drive(address: "DriveAddress", path: str) -> str:
    """Return the path in the drive that two arguments name together: one behind the key, and one of its own."""
    from hyperfs.drive.names import join, normalise

    path = normalise(path)
    return join(normalise(address.path), path) if path else normalise(address.path)


def examples(*lines: str) -> str:
    """Return the epilog of a help text: how the command is used, each line kept as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def run_with_daemon(common: Common, function: Callable[["DaemonClient"], Awaitable[Result]]) -> Result:
    """Run ``function`` with a client of the store's daemon, which is started when needed."""
    import trio

    from hyperfs.daemon.client import connect

    set_up_logging(common)

    async def run() -> Result:
        async with connect(common.store, timeout_seconds=common.timeout_seconds, peers=common.peers) as client:
            return await function(client)

    return trio.run(run)


def run_with_running_daemon(common: Common, function: Callable[["DaemonClient"], Awaitable[Result]]) -> Result | None:
    """Run ``function`` with a client of the daemon if one runs; return None when none does."""
    import trio

    from hyperfs.daemon.client import Start, connect
    from hyperfs.daemon.places import Places
    from hyperfs.daemon.process import read_announcement

    set_up_logging(common)
    if read_announcement(Places(common.store.expanduser().resolve())) is None:
        return None

    async def run() -> Result | None:
        try:
            async with connect(common.store, start=Start.NEVER, timeout_seconds=common.timeout_seconds) as client:
                return await function(client)
        except NoDaemon:
            return None

    return trio.run(run)


def confirm(question: str, *, yes: bool) -> None:
    """Return if the user agrees, or has said ``--yes``. Raises `click.Abort`; `UsageError` when nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to be asked (standard input is no terminal): say --yes if you are sure")
    click.confirm(question, abort=True, err=True)


def set_up_logging(common: Common) -> None:
    """Send log lines to standard error: warnings, with ``-v`` more."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(common.verbosity, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def report(error: BaseException, *, verbose: bool) -> int:
    """Tell a person what went wrong; return the exit status."""
    error = sole(error)
    if verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo(err=True)
        return 130
    if isinstance(error, BrokenPipeError):
        end_by_sigpipe()
    complain(describe(error))
    if isinstance(error, HyperfsError | OSError):
        return 2 if isinstance(error, UsageError) else 1
    if not verbose:
        click.echo("hyperfs: this is a fault in hyperfs; the same command with -v says more", err=True)
    return 1


def describe(error: BaseException) -> str:
    """Return an error's words, as a person reads them."""
    if isinstance(error, HyperfsError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:
        return f"{error.strerror}: the disk of the store, or of what is written to, is full; what was there stays"
    if isinstance(error, OSError) and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def sole(error: BaseException) -> BaseException:
    """Return the first exception within groups of one or several."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def end_by_sigpipe() -> NoReturn:
    """End as a program does whose reader hung up."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(1)
