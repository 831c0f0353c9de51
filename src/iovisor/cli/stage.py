"""How the demonstrations speak: titles, lines, and marks for what must hold.

A mark that fails is kept in `failed`, and makes the command end with 1.  Commands are shown as they are typed, with
what they answer behind a line; colours are for terminals.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Stage:
    """A console, and what did not hold on it."""

    def __init__(self, console: Console, failed: list[str]) -> None:
        self.console, self.failed = console, failed

    def title(self, text: str) -> None:
        self.console.print(f"\n[bold]{text}[/]\n")

    def say(self, text: str, sign: str = "") -> None:
        """A line, or several that stay behind their sign."""
        from rich.padding import Padding
        from rich.table import Table
        grid = Table.grid(padding=(0, 1))
        grid.add_row(*([sign] if sign else []), text)
        self.console.print(Padding(grid, (0, 0, 0, 2), expand=False))

    def mark(self, holds: bool, text: str) -> None:
        """Something that must hold."""
        if not holds:
            self.failed.append(text)
        self.say(text, "[green]✓[/]" if holds else "[bold red]✗[/]")

    def typed(self, command: str) -> None:
        """A command, as a person types it."""
        from rich.text import Text
        self.console.print(Text.assemble("  ", ("$ ", "dim"), (command, "bold cyan")), soft_wrap=True)

    def answered(self, output: str) -> None:
        """What a command printed, in its own colours."""
        from rich.text import Text
        for line in output.rstrip().splitlines():
            self.console.print(Text.assemble(("  │ ", "dim"), Text.from_ansi(line)), soft_wrap=True)


__all__ = ["Stage"]
