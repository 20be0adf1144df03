"""``jobtasks completion``: what a shell needs to complete our command lines."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "jobtasks"
VARIABLE = "_JOBTASKS_COMPLETE"
"""With this in its environment the program answers the shell instead of running a command."""


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that lets SHELL complete `jobtasks` commands and options.

    \b
    bash:  eval "$(jobtasks completion bash)"        in ~/.bashrc
    zsh:   eval "$(jobtasks completion zsh)"         in ~/.zshrc, after compinit
    fish:  jobtasks completion fish | source         in ~/.config/fish/config.fish
    """
    chosen = get_completion_class(shell)
    assert chosen is not None, "click knows each of the choices"
    root = click.get_current_context().find_root().command
    click.echo(chosen(root, {}, PROGRAM, VARIABLE).source())
