"""``completion``: what a shell needs to complete commands and options, and what is offered for drives and mounts.

The rule: where something cannot be looked at, or not soon, nothing is offered, and nothing said; nothing is made or
started.
"""

from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import get_completion_class

from hyperfs.cli.command import command, settings_of, words_of
from hyperfs.cli.common import examples
from hyperfs.errors import HyperfsError

if TYPE_CHECKING:
    from hyperfs.daemon.places import Places

_LOOK_SECONDS: Final = 2.0
"""A person waits no longer for what he may as well write."""


@command(
    epilog=examples(
        'eval "$(hyperfs completion bash)"    in ~/.bashrc',
        'eval "$(hyperfs completion zsh)"     in ~/.zshrc',
        "hyperfs completion fish > ~/.config/fish/completions/hyperfs.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script for hyperfs."""
    from hyperfs.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(cli, {}, "hyperfs", "_HYPERFS_COMPLETE").source())


def drives_beginning(ctx: click.Context, beginning: str) -> list[str]:
    """Return names and keys of drives that are here and begin so."""
    from hyperfs.daemon.known import words_for_drives

    try:
        return words_for_drives(_places(ctx), beginning)
    except (HyperfsError, OSError):
        return []


def tags_beginning(ctx: click.Context, drive: str, beginning: str) -> list[str]:
    """Return the tags of ``drive``, one of those that are here, that begin so."""
    import trio

    from hyperfs.daemon.known import find_drive
    from hyperfs.keys import parse_key

    try:
        places = _places(ctx)
        key = find_drive(places, drive) or parse_key(drive)
        tags = trio.run(_tags, places, key)
    except (HyperfsError, OSError):
        return []
    return [tag for tag in tags if tag.startswith(beginning)]


def folders_beginning(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[str]:
    """Return the mounted folders that begin so."""
    from hyperfs.daemon.state import read_state

    try:
        mounts = read_state(_places(ctx).state).mounts
    except (HyperfsError, OSError):
        return []
    return sorted(mount.mountpoint for mount in mounts if mount.mountpoint.startswith(beginning))


async def _tags(places: "Places", key: bytes) -> list[str]:
    """Return a drive's tags as far as they are here, none when they cannot be had soon. Raises `HyperfsError`, OSError.

    While no daemon runs, this process has the store; whoever starts one waits for that.
    """
    import trio

    from hyperfs.daemon.client import Start, connect
    from hyperfs.daemon.process import none_starts
    from hyperfs.drive.drive import Drive
    from hyperfs.drive.library import open_store
    from hyperfs.errors import NoDaemon

    tags: dict[str, int] = {}
    with trio.move_on_after(_LOOK_SECONDS):
        try:
            async with connect(places.store, start=Start.NEVER, timeout_seconds=_LOOK_SECONDS) as client:
                tags = await (await Drive.open(client, key)).snapshot().tags()
        except NoDaemon:
            async with none_starts(places), open_store(places.store) as store:
                tags = await (await store.drive(key)).snapshot().tags()
    return list(tags)


def _places(ctx: click.Context) -> "Places":
    """Return the places of the store that the command line so far, environment and files name."""
    from hyperfs.daemon.places import Places, default_store

    settings = settings_of(ctx)
    given = [one.params["store"] for one in (ctx, ctx.find_root()) if one.params.get("store")]
    store = given[0] if given else settings.value(words_of(ctx), "store", settings.common["store"])
    return Places((store or default_store()).expanduser().resolve())
