"""`iovisor completion SHELL`: the text that makes a shell complete our commands, options and files."""
from __future__ import annotations

import click

HOW = {
    "bash": 'eval "$(iovisor completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(iovisor completion zsh)"       # in ~/.zshrc',
    "fish": "iovisor completion fish | source       # in ~/.config/fish/config.fish",
}


@click.command("completion", short_help="Make bash, zsh or fish complete iovisor's commands.",
               epilog="\b\n" + "\n".join(HOW.values()))
@click.argument("shell", type=click.Choice(list(HOW)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what SHELL has to read to complete iovisor's commands, options and files."""
    from click.shell_completion import get_completion_class
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "iovisor", "_IOVISOR_COMPLETE").source())
