"""``completion``: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from hyperfs.cli.command import command
from hyperfs.cli.common import examples


@command(
    epilog=examples(
        'eval "$(hyperfs completion bash)"                                 in ~/.bashrc',
        'eval "$(hyperfs completion zsh)"                                  in ~/.zshrc',
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
