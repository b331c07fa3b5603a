"""What the commands share: options, and the edge where errors become words and exit statuses.

The rule: status 0 is success, 1 failure, 2 wrong usage; a person sees one line that says what to do, and a traceback
only with ``-v``. Nothing heavy is imported here.
"""

import errno
import functools
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from hyperfs.cli.command import DAEMON, CommonOption, Settings, default_of, options_of, settings_of, words_of
from hyperfs.cli.kinds import PEER, NamedDrive, PortParameter, RateParameter, SecondsParameter
from hyperfs.cli.output import be_quiet, complain
from hyperfs.cli.signals import Terminated, cancelling_at_signals, end_by
from hyperfs.errors import HyperfsError, InvalidKey, NoDaemon, UsageError

if TYPE_CHECKING:
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings
    from hyperfs.keys import DriveAddress

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")

FINDING_PEERS: Final = "Finding peers"


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command takes."""

    store: Path
    peers: tuple[str, ...]
    timeout_seconds: float
    verbosity: int
    is_quiet: bool
    json: bool
    names_store: bool
    """Whether the store was named with the command, and so is meant to be there."""
    dns_over_https: str | None
    network: "NetworkSettings"
    """How a daemon takes part in the network that is started for this command."""
    idle_seconds: float | None
    """After how long with nothing to do that one ends; None: the usual."""
    network_change: "NetworkChange"
    """What of that was said with this command, and counts for a daemon that runs."""


def _option(*names: str, **attributes: Any) -> Callable[[Function], Function]:
    return click.option(*names, cls=CommonOption, **attributes)


_OPTIONS: Final = {
    "store": _option(
        "--store",
        metavar="DIR",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where drives are kept.  [default: hyperfs in the XDG data home]",
    ),
    "verbose": _option("-v", "--verbose", count=True, help="Say more; tracebacks of errors; twice: everything."),
    "quiet": _option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors."),
    "timeout": _option(
        "--timeout",
        metavar="SECONDS",
        type=SecondsParameter(),
        default=30.0,
        help="How long to wait for a peer to send something before giving up.  [default: 30]",
    ),
    "as_json": _option("--json", "as_json", is_flag=True, help="Print JSON for scripts."),
    "peer": _option(
        "--peer",
        metavar="HOST:PORT",
        multiple=True,
        type=PEER,
        heading=FINDING_PEERS,
        help="Connect to this peer. Can be given several times.",
    ),
    "dns_over_https": _option(
        "--dns-over-https",
        metavar="URL",
        heading=FINDING_PEERS,
        help="Ask this server what stands behind dat://NAME, instead of the system's name servers.",
    ),
    "bootstrap": _option(
        "--bootstrap",
        metavar="HOST:PORT",
        multiple=True,
        type=PEER,
        heading=FINDING_PEERS,
        of_daemon=True,
        help="Begin with this node of the DHT, instead of the public ones. Can be given several times.",
    ),
    "no_dht": _option("--no-dht", is_flag=True, heading=FINDING_PEERS, of_daemon=True, help="Do without the DHT."),
    "no_mdns": _option(
        "--no-mdns", is_flag=True, heading=FINDING_PEERS, of_daemon=True, help="Do not look on the local network."
    ),
    "port": _option(
        "--port",
        metavar="NUMBER",
        type=PortParameter(),
        heading=FINDING_PEERS,
        of_daemon=True,
        help="Where peers reach us, by TCP and UDP.  [default: 3282, or another that is free and is kept]",
    ),
    "limit_up": _option(
        "--limit-up",
        metavar="RATE",
        type=RateParameter(),
        default=0,
        heading=FINDING_PEERS,
        of_daemon=True,
        help="Send peers no more than this in a second, as 500K or 2M, until the daemon ends; none ends a limit."
        "  [default: none]",
    ),
    "limit_down": _option(
        "--limit-down",
        metavar="RATE",
        type=RateParameter(),
        default=0,
        heading=FINDING_PEERS,
        of_daemon=True,
        help="Receive no more than this in a second, likewise.  [default: none]",
    ),
}
_OF_PEERS: Final = frozenset({"timeout", "peer", "dns_over_https"})
"""What only those commands take that ask peers."""
_OF_DAEMON: Final = frozenset({"bootstrap", "no_dht", "no_mdns", "port", "limit_up", "limit_down"})
"""How the daemon takes part in the network: for those commands, too, and for the one that runs it."""
_ADDED_UP: Final = frozenset({"verbose", "peer", "bootstrap"})
"""What adds up when it stands before the command and behind it."""


def common_options(*, json: bool = True, network: bool = True, daemon: bool = False) -> Callable[[Function], Function]:
    """Give a command the common options; it gets them as one `Common`, its first argument.

    They may stand before the command, too: see `before_commands`. Those that are none of this command's are what
    environment and files say. ``network``: it asks peers; ``daemon``: it runs the daemon, which does.
    """

    def decorate(function: Function) -> Function:
        def command(given: dict[str, Any], **arguments: Any) -> Any:
            if given.get("as_json") and not json:
                raise click.UsageError("this command prints nothing for scripts: leave out --json")
            common = _common(click.get_current_context(), given)
            if common.is_quiet:
                be_quiet()
            return function(common, **{name: _found(common, value) for name, value in arguments.items()})

        left_out = set() if json else {"as_json"}
        left_out |= set() if network else _OF_PEERS
        left_out |= set() if network or daemon else _OF_DAEMON
        return _with_options(command, function, [name for name in _OPTIONS if name not in left_out])

    return decorate


def before_commands(function: Function) -> Function:
    """Let a group take the common options on behalf of its commands."""

    def group(given: dict[str, Any], **arguments: Any) -> Any:
        click.get_current_context().obj = given
        return function(**arguments)

    return _with_options(group, function, list(_OPTIONS))


def _with_options(wrapper: Callable[..., Any], function: Function, names: Sequence[str]) -> Function:
    """Return ``wrapper`` dressed as ``function``; its first argument are the options given here and before."""

    @functools.wraps(function)
    def command(**arguments: Any) -> Any:
        ctx = click.get_current_context()
        given: dict[str, Any] = dict(ctx.obj or {})
        for name in names:
            value = arguments.pop(name)
            if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                adds = name in given and name in _ADDED_UP
                given[name] = given[name] + value if adds else value
        return wrapper(given, **arguments)

    decorated: Any = command
    for name in reversed(names):
        decorated = _OPTIONS[name](decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep what they decorate


def _common(ctx: click.Context, given: dict[str, Any]) -> Common:
    """Return the common options: what was given, else what environment and files say, else the defaults."""
    from hyperfs.daemon.network_settings import NetworkChange, NetworkSettings
    from hyperfs.daemon.places import default_store

    settings, words = settings_of(ctx), words_of(ctx)
    values = dict(given)
    for key, option in settings.common.items():
        if option.name not in values:
            said = settings.value(words, key, option)
            values[option.name] = default_of(option) if said is None else said
    return Common(
        store=values["store"] or default_store(),
        peers=values["peer"],
        timeout_seconds=values["timeout"],
        verbosity=values["verbose"],
        is_quiet=values["quiet"] and not values["verbose"],
        json=values["as_json"],
        names_store="store" in given,
        dns_over_https=values["dns_over_https"],
        network=NetworkSettings(
            dht=not values["no_dht"],
            mdns=not values["no_mdns"],
            bootstrap=values["bootstrap"],
            port=values["port"],
            limit_up=values["limit_up"],
            limit_down=values["limit_down"],
        ),
        idle_seconds=_idle_seconds(settings),
        network_change=NetworkChange(
            dht=not given["no_dht"] if "no_dht" in given else None,
            mdns=not given["no_mdns"] if "no_mdns" in given else None,
            bootstrap=tuple(given["bootstrap"]) if "bootstrap" in given else None,
            port=given.get("port"),
            limit_up=given.get("limit_up"),
            limit_down=given.get("limit_down"),
        ),
    )


def _idle_seconds(settings: Settings) -> float | None:
    """Return after how long with nothing to do a daemon is to end that a command starts, if anybody says so."""
    said = settings.find([DAEMON], "idle", None)
    if said is None:
        return None
    from hyperfs.cli.service import daemon

    seconds: float = settings.convert(said, options_of(daemon)["idle"])
    return seconds


def _found(common: Common, value: Any) -> Any:
    """Return the drive behind a name, or behind the first digits of a key; anything else as it is."""
    if not isinstance(value, NamedDrive):
        return value
    if value.why_no_key is None:
        from hyperfs.cli.names import key_of_name

        try:
            return replace(value.rest, key=key_of_name(value.name, dns_over_https=common.dns_over_https))
        except InvalidKey as error:
            raise UsageError(str(error)) from None
    from hyperfs.daemon.known import find_drive
    from hyperfs.daemon.places import Places

    key = find_drive(Places(common.store.expanduser().resolve()), value.name)
    if key is None:
        raise UsageError(
            f"{value.why_no_key}; and no drive of the store {common.store} is called or begins so: `hyperfs list` "
            "shows them"
        )
    return replace(value.rest, key=key)


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


def run_with_daemon(
    common: Common,
    function: Callable[["DaemonClient"], Awaitable[Result]],
    *,
    begins_store: bool = False,
    winds_up: bool = False,
) -> Result:
    """Run ``function`` with a client of the store's daemon, which is started when needed.

    If it ``winds_up``, ^C and SIGTERM cancel it, and otherwise break it off where it stands. Raises `UsageError` when
    the user names a store that is not there, unless this is how one ``begins_store``, or it is an empty folder.
    """
    import trio

    from hyperfs.daemon.client import connect

    set_up_logging(common)
    if not begins_store:
        refuse_missing_store(common)

    async def run() -> Result:
        async with connect(
            common.store,
            timeout_seconds=common.timeout_seconds,
            peers=common.peers,
            network=common.network,
            idle_seconds=common.idle_seconds,
            change=common.network_change,
        ) as client:
            with cancelling_at_signals() if winds_up else nullcontext():
                return await function(client)

    return trio.run(run)


def refuse_missing_store(common: Common) -> None:
    """Raise `UsageError` when the user names a store that is not there, and no empty folder to begin one in either."""
    from hyperfs.daemon.places import Places

    store = common.store.expanduser().resolve()
    if common.names_store and not Places(store).is_there() and not _is_empty_folder(store):
        raise UsageError(
            f"there is no store at {common.store}: look at what --store names; `hyperfs create`, `import`, `serve` and "
            "`mount` begin one there, and every command does in a folder that is empty"
        )


def _is_empty_folder(path: Path) -> bool:
    try:
        return not os.listdir(path)
    except OSError:
        return False


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
    """Send log lines to standard error: warnings, with ``-v`` more, with ``-q`` less."""
    from hyperfs.log_rate import log_to_stderr

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(common.verbosity, 2)]
    level = logging.ERROR if common.is_quiet else level
    log_to_stderr(level, "%(levelname)s %(name)s: %(message)s")


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
    if isinstance(error, Terminated):
        end_by(signal.SIGTERM)
    if isinstance(error, BrokenPipeError):
        end_by(signal.SIGPIPE)
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
        named = isinstance(error.filename, str | bytes) and error.filename  # a descriptor is no name
        return f"{os.fsdecode(named)}: {error.strerror}" if named else error.strerror
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def sole(error: BaseException) -> BaseException:
    """Return the first exception within groups of one or several."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
