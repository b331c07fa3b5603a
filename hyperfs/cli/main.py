"""``hyperfs``: the command itself, which loads the module of the subcommand that is wanted, and no other.

The rule: whatever goes wrong below ends here, as one line and an exit status.
"""

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import click

from hyperfs import __version__
from hyperfs.cli.command import Group
from hyperfs.cli.common import before_commands, examples, report
from hyperfs.cli.signals import end_by

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""numpy's library for linear algebra, of which nothing here makes use, would start a thread for each processor, each of
which looks for work for a while before it sleeps. The daemon and its mounts inherit this."""

_Handler = Callable[[int, Any], Any] | int | None

_COMMANDS = {
    "import": ("transfer", "import_command", "Make a drive of a folder, or bring a drive up to date with it."),
    "create": ("share", "create", "Make a new, empty drive."),
    "serve": ("share", "serve", "Offer a drive to peers."),
    "unserve": ("share", "unserve", "Offer a drive no more."),
    "listen": ("share", "listen", "Show or say where peers are accepted."),
    "list": ("listing", "list_command", "List the drives of which something is here."),
    "remove": ("listing", "remove", "Delete what is here of a drive."),
    "name": ("listing", "name", "Call a drive something shorter than its key."),
    "link": ("linking", "link", "Show a drive inside another one."),
    "unlink": ("linking", "unlink", "Show a drive no more inside another one."),
    "mount": ("mounts", "mount", "Show a drive as a folder."),
    "umount": ("mounts", "umount", "Take a mounted folder away."),
    "ls": ("browse", "ls", "List what is in a drive."),
    "cat": ("browse", "cat", "Print files of a drive."),
    "stat": ("browse", "stat", "Show everything about one path of a drive."),
    "export": ("transfer", "export", "Copy a drive, or a part of it, to a folder."),
    "download": ("fetching", "download", "Fetch files of a drive, to have them here."),
    "pin": ("fetching", "pin", "Keep all of a drive here, with each new version."),
    "unpin": ("fetching", "unpin", "Keep a drive no more than others."),
    "web": ("web", "web", "Show the drives in a browser."),
    "tree": ("shape", "tree", "Draw what is in a drive as a tree."),
    "du": ("shape", "du", "Show how large each folder is, and how much of it is here."),
    "map": ("shape", "map_command", "Draw which parts of a file are here."),
    "info": ("browse", "info", "Show what a drive is and how much of it is here."),
    "check": ("browse", "check", "Read all of a drive that is here, and find what the disk has damaged."),
    "log": ("history", "log", "Show what each version of a drive did."),
    "diff": ("history", "diff", "Show what differs between two versions."),
    "tag": ("history", "tag", "Give a version a name, list the names, take one away."),
    "prune": ("keeping", "prune", "Free the space of old versions."),
    "clear": ("keeping", "clear", "Free the space of what peers can bring again."),
    "cache": ("keeping", "cache", "Limit how much of others' drives is kept here."),
    "key": ("secrets", "key", "Save a drive's secret key, or bring one here."),
    "fork": ("secrets", "fork", "Show whether a drive was written in two places, and decide."),
    "peer": ("share", "peer", "Remember peers to connect to."),
    "status": ("service", "status", "Show what is mounted, served and fetched, and with whom."),
    "stop": ("service", "stop", "End the daemon and its mounts."),
    "daemon": ("service", "daemon", "Run the daemon in the foreground."),
    "config": ("config", "config", "Show what options are that are not given, and who says so."),
    "dht": ("dht", "dht", "Run a node of the table by which peers find each other."),
    "completion": ("completion", "completion", "Print a shell's completion script."),
}


class _Group(Group):
    """Knows its commands by name and summary; imports a command's module when it is asked for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"hyperfs.cli.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and args[0].isidentifier():
            near = get_close_matches(args[0], _COMMANDS, n=3, cutoff=0.7)
            ctx.fail(f"there is no command {args[0]!r}" + (f": did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            end_by(signal.SIGPIPE)  # before click makes it a failure like any other

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in _COMMANDS.items()])


@click.command(
    cls=_Group,
    # "color": what goes into a pipe keeps names as they are; without it click leaves control sequences out
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "color": True},
    epilog=examples(
        "hyperfs import ./photos               make a drive; prints its key",
        "hyperfs serve KEY                     offer it to others",
        "hyperfs mount KEY /mnt/photos         elsewhere: a folder, at once",
        "hyperfs mount KEY+12 /mnt/old         as it was at version 12",
        "hyperfs log KEY                       what happened to it",
        "hyperfs umount /mnt/photos",
    ),
)
@click.version_option(__version__, "--version", prog_name="hyperfs", message="%(prog)s %(version)s")
@before_commands
def cli() -> None:
    """Mount a Hyperdrive as a folder.

    A drive is named by a KEY. What it holds is fetched from peers, which are found by it alone, when it is read,
    verified, kept on this disk, and served on to others. KEY+VERSION or KEY+TAG is the drive as it was; a path may
    follow behind a slash. Of a drive that is here the first digits of its key do, or a name (`hyperfs name`).

    The first command that needs it starts a daemon that owns the store of drives and ends by itself when there is
    nothing left to serve or to mount. `hyperfs COMMAND --help` tells more, with examples. The options below may stand
    before or behind the command.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit status. ^C is caught if it is not ignored."""
    os.environ.setdefault(_BLAS_THREADS, "1")
    verbose = any(
        argument == "--verbose" or (argument[:1] == "-" and argument[1:] and set(argument[1:]) == {"v"})
        for argument in (sys.argv[1:] if arguments is None else arguments)
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # links and attributes need not be UTF-8
    try:
        _replace_handler(signal.SIG_DFL, signal.default_int_handler)
        outcome: Any = cli.main(arguments, prog_name="hyperfs", standalone_mode=False)
        sys.stdout.flush()
        status = outcome if isinstance(outcome, int) else 0
    except BaseException as error:  # the edge: all that a command ends of becomes words and a status
        _replace_handler(signal.default_int_handler, signal.SIG_DFL)  # nobody catches what comes of it any more
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        status = report(error, verbose=verbose)
    _replace_handler(signal.default_int_handler, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        end_by(signal.SIGPIPE)
    sys.exit(status)


def _replace_handler(old: _Handler, new: _Handler) -> None:
    if signal.getsignal(signal.SIGINT) is old:
        signal.signal(signal.SIGINT, new)


if __name__ == "__main__":
    main()
