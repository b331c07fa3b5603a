"""``completion``: what a shell needs to complete commands and options, and what is offered for drives and mounts.

The rule: where something cannot be looked at, nothing is offered, and nothing said; nothing is made or started.
"""

from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from hyperfs.cli.command import command, settings_of, words_of
from hyperfs.cli.common import examples
from hyperfs.errors import HyperfsError

if TYPE_CHECKING:
    from hyperfs.daemon.places import Places


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


def folders_beginning(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[str]:
    """Return the mounted folders that begin so."""
    from hyperfs.daemon.state import read_state

    try:
        mounts = read_state(_places(ctx).state).mounts
    except (HyperfsError, OSError):
        return []
    return sorted(mount.mountpoint for mount in mounts if mount.mountpoint.startswith(beginning))


def _places(ctx: click.Context) -> "Places":
    """Return the places of the store that the command line so far, environment and files name."""
    from hyperfs.daemon.places import Places, default_store

    settings = settings_of(ctx)
    given = [one.params["store"] for one in (ctx, ctx.find_root()) if one.params.get("store")]
    store = given[0] if given else settings.value(words_of(ctx), "store", settings.common["store"])
    return Places((store or default_store()).expanduser().resolve())
