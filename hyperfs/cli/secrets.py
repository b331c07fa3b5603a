"""``key`` and ``fork``: who may write to a drive, and what to do when two did."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hyperfs.cli.command import command, group
from hyperfs.cli.common import Common, before_commands, common_options, examples, refuse_missing_store, run_with_daemon
from hyperfs.cli.kinds import DRIVE
from hyperfs.cli.output import print_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hyperfs.daemon.answers import SecretKeys, WriterState
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.keys import DriveAddress


@group(epilog=examples("hyperfs key export KEY --passphrase", "hyperfs key import 1f2e3d4c.hyperfs-key"))
@before_commands
def key() -> None:
    """Save the secret key of a drive of yours, or bring one to this store.

    Who has the secret key can write to the drive. Write to a drive from one store at a time: `hyperfs fork --help`.
    """


@key.command(
    "export",
    epilog=examples(
        "hyperfs key export KEY --passphrase     sealed, below ~/.config/hyperfs",
        "hyperfs key export KEY --out /media/usb/drive.key",
    ),
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A new file.  [default: DIGITS.hyperfs-key in ~/.config/hyperfs, a folder of yours alone]",
)
@click.option("--passphrase", "sealed", is_flag=True, help="Seal it with a passphrase, which is asked for.")
@common_options(network=False)
@click.argument("address", metavar="KEY", type=DRIVE)
def key_export(common: Common, address: "DriveAddress", out: Path | None, sealed: bool) -> None:
    """Write the secret keys of a drive of yours to a file that only you may read.

    It holds the keys, not the files: they come from peers, or from a backup of the store.
    """
    passphrase = _new_passphrase() if sealed else None

    async def run(client: "DaemonClient") -> "SecretKeys":
        return await client.secret_keys(address.key)

    from hyperfs.drive.keyfile import DriveKeys, encode_keys, seal_keys, write_key_file

    found = run_with_daemon(common, run)
    keys = DriveKeys(found.drive, found.content, *found.lengths)
    path = out or _folder_of_keys() / f"{address.key.hex()[:8]}.hyperfs-key"
    write_key_file(path, encode_keys(keys) if passphrase is None else seal_keys(keys, passphrase))
    if common.json:
        print_json({"key": keys.key.hex(), "file": str(path.absolute()), "sealed": sealed})
    else:
        click.echo(f"wrote {path}: whoever has it{' and the passphrase' if sealed else ''} can write to the drive")


@key.command("import", epilog=examples("hyperfs key import 1f2e3d4c.hyperfs-key"))
@common_options(network=False)
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def key_import(common: Common, file: Path) -> None:
    """Make a drive writable in this store, by a file that `hyperfs key export` wrote.

    Before the first change all that was written to the drive is fetched from peers; until it is here, nothing can be
    written.
    """
    from hyperfs.drive.keyfile import decode_keys, is_sealed, read_key_file

    content = read_key_file(file)
    keys = decode_keys(content, _passphrase("Passphrase") if is_sealed(content) else None)

    async def run(client: "DaemonClient") -> None:
        await client.adopt_drive(keys.drive_secret, keys.content_secret, (keys.drive_length, keys.content_length))

    run_with_daemon(common, run, begins_store=True)
    if common.json:
        print_json({"key": keys.key.hex(), "writable": True})
    else:
        click.echo(f"{keys.key.hex()} is yours to write to here")


@command(epilog=examples("hyperfs fork KEY", "hyperfs fork KEY --keep-mine"))
@click.option("--keep-mine", is_flag=True, help="Go on with what is in this store.")
@click.option("--keep-theirs", is_flag=True, help="Set aside what is in this store, to fetch the other history.")
@common_options(network=False)
@click.argument("address", metavar="KEY", type=DRIVE)
def fork(common: Common, address: "DriveAddress", keep_mine: bool, keep_theirs: bool) -> None:
    """Show whether a drive of yours was written in two places, and decide which to go on with.

    A drive has one history, signed by its secret key. When the key was used from two stores that did not know of each
    other there are two, and nobody who has one can ever follow the other. hyperfs then keeps what is here, and writes
    nothing more to the drive until you choose:

    \b
    keep what is here     hyperfs fork KEY --keep-mine
    keep the other one    hyperfs stop; hyperfs fork KEY --keep-theirs: what is
                          here is set aside; the other is fetched when read
    keep both             hyperfs export KEY DIR; hyperfs import DIR: a new drive
                          with a new key, of which both can be written to

    docs/keeping.md tells each step.
    """

    async def run(client: "DaemonClient") -> "tuple[WriterState, ...]":
        if keep_mine:
            await client.accept_fork(address.key)
        return await client.writer_states(address.key)

    if keep_mine and keep_theirs:
        raise click.UsageError("one of the two has to go: --keep-mine, or --keep-theirs")
    if keep_theirs:
        refuse_missing_store(common)
        aside = _set_aside(common, address.key)
        if common.json:
            print_json({"key": address.key.hex(), "aside": aside})
        else:
            for path in aside:
                click.echo(f"set aside: {path}")
        return
    found = run_with_daemon(common, run)
    if common.json:
        from hyperfs.daemon.codec import to_plain

        print_json({"key": address.key.hex(), "standing": [to_plain(core) for core in found]})
        return
    for line in standing_lines(found, {address.key.hex(): f"drive {address.key.hex()[:8]}"}):
        click.echo(line)
    if not found:
        click.echo("not forked, as far as is known here, and not behind")


def standing_lines(found: "Iterable[WriterState]", names: "Mapping[str, str]") -> list[str]:
    """Return what a person is told of cores that are behind or forked; ``names`` say by key (hex) what drives are."""
    lines = []
    for core in found:
        name = names.get(core.core, f"content {core.core[:8]}")
        if core.fork:
            if core.core in names:
                other = f"{core.fork.peer} has {core.fork.length} versions that contradict the {core.length} here"
            else:
                other = f"{core.fork.peer} has files with other content than those here"
            decided = "you decided to go on with what is here"
            undecided = "nothing is written to it: hyperfs fork --help"
            lines.append(f"FORKED     {name}: {other}; {decided if core.fork.accepted else undecided}")
        if core.behind:
            lines.append(f"behind     {name}: {core.behind}")
    return lines


def _set_aside(common: Common, key: bytes) -> list[str]:
    """Have the drive's cores begin anew, in a store that no daemon has open; return where what was there is now."""
    import trio

    from hyperfs.core.store import run_store
    from hyperfs.daemon.places import places_of
    from hyperfs.daemon.process import connect_running
    from hyperfs.drive.volume import read_drive_header
    from hyperfs.errors import UsageError, short

    async def run() -> list[str]:
        places = places_of(common.store)
        running = await connect_running(places)
        if running is not None:
            running.close()
            raise UsageError("a daemon has the store open: `hyperfs stop`, and then the same command again")
        async with run_store(places.store) as store:
            core = await store.core(key)
            if core.fork_guard.fork is None:
                raise UsageError(f"drive {short(key)} is not forked, as far as is known here: nothing is set aside")
            content_key = (await read_drive_header(core)).metadata
            assert content_key is not None  # or it would be no drive's header
            return [str(await store.set_aside(one)) for one in (content_key, key)]

    return trio.run(run)


def _folder_of_keys() -> Path:
    """Return where a key goes that nobody said a place for: not where one happens to be, which may be shared."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "hyperfs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _new_passphrase() -> str:
    passphrase = _passphrase("Passphrase", again=True)
    if not passphrase:
        raise click.UsageError("an empty passphrase seals nothing")
    return passphrase


def _passphrase(prompt: str, *, again: bool = False) -> str:
    """Ask for a passphrase, or read it as the first line of what is piped in."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    answer: str = click.prompt(prompt, hide_input=True, confirmation_prompt=again, err=True)
    return answer
