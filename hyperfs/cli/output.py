"""How results are printed: for people on a terminal, plainly into a pipe, as JSON for scripts.

The rule: a name that came from a drive never reaches a terminal with its control characters; into a pipe it goes
unchanged.
"""

import json
import re
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import click

from hyperfs.text import count_text as count_text
from hyperfs.text import day_text as day_text
from hyperfs.text import duration_text as duration_text
from hyperfs.text import mode_text as mode_text
from hyperfs.text import parse_size as parse_size
from hyperfs.text import size_text as size_text
from hyperfs.text import time_text as time_text

if TYPE_CHECKING:
    from rich.table import Table

_KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_OF_BLOCK = re.compile(r"\b(block|byte) [0-9,]+ of core [0-9a-f]{8}: ")
_EVERYWHERE = re.compile(r"^(?:0\.0\.0\.0|\[::\]):([0-9]+)$")
_SHOWN_DIGITS = 12
_QUIET = "hyperfs.quiet"


def print_json(value: Any) -> None:
    """Print ``value`` as JSON."""
    click.echo(_valid(json.dumps(value, indent=2, ensure_ascii=False)))


def print_json_line(value: Any) -> None:
    """Print ``value`` as JSON on one line, for outputs that come bit by bit."""
    click.echo(json_line(value))


def json_line(value: Any) -> str:
    """Return ``value`` as JSON on one line."""
    return _valid(json.dumps(value, ensure_ascii=False))


@asynccontextmanager
async def printing_together() -> AsyncGenerator[Callable[[str], None], None]:
    """Give a function that prints a line, with all that are printed before the caller next waits for something.

    Whatever ends the block, what was given is printed.
    """
    import trio

    from hyperfs.drive.nursery import open_work

    lines: list[str] = []

    def print_all() -> None:
        if lines:
            text = "\n".join(lines)
            lines.clear()
            click.echo(text)

    async def keep_printing() -> None:
        while True:
            await parked.park()
            print_all()

    def print_line(line: str) -> None:
        lines.append(line)
        parked.unpark()

    parked = trio.lowlevel.ParkingLot()
    async with open_work() as nursery:
        nursery.start_soon(keep_printing)
        try:
            yield print_line
        finally:
            nursery.cancel_scope.cancel()
            print_all()


def shown(name: str) -> str:
    """Return a drive's name as it may be printed here."""
    return _printable(name) if sys.stdout.isatty() else name


def complain(message: str) -> None:
    """Print a line on standard error: what is wrong, often with a drive's name for something in it."""
    line = f"hyperfs: {message}"
    click.echo(_printable(line) if sys.stderr.isatty() else line, err=True)


def reason_text(error: BaseException | str) -> str:
    """Return why something is not here, less which block of which core it is: that no two files have in common."""
    return _OF_BLOCK.sub("", str(error))


def tell(message: str) -> None:
    """Print a line on standard error that says what was done, or is being done: not for who asked for quiet."""
    if not is_quiet():
        click.echo(_printable(message) if sys.stderr.isatty() else message, err=True)


def shows_bars() -> bool:
    """Tell whether how far a command has come is shown: on a terminal, and not to who asked for quiet."""
    return sys.stderr.isatty() and not is_quiet()


def is_quiet() -> bool:
    """Tell whether ``-q`` was given to the command that runs."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(_QUIET))


def be_quiet() -> None:
    """Say no more from the command that runs than results and errors."""
    click.get_current_context().meta[_QUIET] = True


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def drive_text(key: str, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a key (hex), or what begins with one, for a table: on a terminal what stands for it here.

    That is what the drive is called by ``names``, or the key's first digits.
    """
    return _KEY.sub(lambda key: names.get(key[0], key[0][:_SHOWN_DIGITS]), key) if sys.stdout.isatty() else key


def where_text(addresses: Iterable[str]) -> str:
    """Return where peers are accepted, as people read it; all addresses are those of both families."""
    return ", ".join(_EVERYWHERE.sub(r"all addresses, port \1", address) for address in addresses)


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = (), whole: Iterable[int] = ()
) -> None:
    """Print a table: ruled on a terminal, else fields with tabs between them and no headings.

    ``right`` are the columns that are aligned to the right, ``whole`` those that are not broken where it gets narrow.
    """
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console

    Console().print(table_of(headings, rows, right=right, whole=whole))


def table_of(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = (), whole: Iterable[int] = ()
) -> "Table":
    """Return a table as `print_table` puts it on a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    aligned, unbroken = set(right), set(whole)
    for column, heading in enumerate(headings):
        justify: Literal["right", "left"] = "right" if column in aligned else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=column in unbroken)
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    return table


def _valid(text: str) -> str:
    """Return JSON as text that UTF-8 can hold: a byte of a name that is none stays, as an escape such as \\udcff."""
    return text.encode(errors="backslashreplace").decode()
