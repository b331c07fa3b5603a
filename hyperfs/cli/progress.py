"""How far a long command has come, on a terminal; elsewhere nothing is shown.

The rule: sizes and speeds are put as everywhere else in hyperfs, by `size_text`.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import replace
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from hyperfs.cli.output import count_text, shows_bars, size_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

    from hyperfs.drive.entry import Entry
    from hyperfs.drive.importer import Progress
    from hyperfs.drive.snapshot import Snapshot

_DRAW_SECONDS: Final = 0.1


@contextmanager
def transfer_progress(what: str, *, wanted: bool = True) -> "Iterator[Callable[[Progress], None] | None]":
    """Show a bar of bytes and files, which moves with each `Progress` that the function given is told."""
    if not (wanted and shows_bars()):
        yield None
        return
    with _transfer_bar() as bar:
        task = bar.add_task(what, sizes="", beside="", total=None)

        def update(progress: "Progress") -> None:
            files = f"{progress.files:,}/{progress.total_files:,} files"
            sizes = f"{size_text(progress.byte_count)} of {size_text(progress.total_bytes)}"
            bar.update(task, completed=progress.byte_count, total=progress.total_bytes, sizes=sizes, beside=files)

        yield update


class Whole:
    """Tells progress as a part of all that is to be done, once that is counted, and not of what was met so far."""

    def __init__(self, told: "Callable[[Progress], None]") -> None:
        self._told = told
        self._files = 0
        self._bytes = 0
        self._is_counted = False

    async def count(self, snapshot: "Snapshot", path: str) -> None:
        """Look how much there is at and below ``path``; what cannot be looked at is not counted."""
        from hyperfs.errors import HyperfsError

        try:
            start = await snapshot.stat(path)
            async with aclosing(_below(snapshot, start)) as entries:
                async for entry in entries:
                    if not entry.is_directory:
                        self._files += 1
                        self._bytes += entry.stat.size
        except HyperfsError:
            return
        self._is_counted = True

    def __call__(self, progress: "Progress") -> None:
        """Tell it."""
        if self._is_counted:
            files, size = max(self._files, progress.total_files), max(self._bytes, progress.total_bytes)
            progress = replace(progress, total_files=files, total_bytes=size)
        self._told(progress)


async def _below(snapshot: "Snapshot", start: "Entry") -> "AsyncGenerator[Entry, None]":
    if not start.is_directory:
        yield start
        return
    async with aclosing(snapshot.walk(start.path)) as entries:
        async for entry in entries:
            yield entry


@contextmanager
def waiting_progress(what: str) -> Iterator[None]:
    """Show that something is waited for, and for how long already."""
    if not shows_bars():
        yield
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _bar(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        bar.add_task(what, total=None)
        yield


@contextmanager
def download_progress(what: str, *, wanted: bool = True) -> "Iterator[Callable[[int, int, int], None] | None]":
    """Show a bar of bytes, which moves as the function given is told how many are here, of how many, and the peers."""
    if not (wanted and shows_bars()):
        yield None
        return
    with _transfer_bar() as bar:
        task = bar.add_task(what, sizes="", beside="", total=None)

        def update(here_bytes: int, total_bytes: int, peers: int) -> None:
            sizes = f"{size_text(here_bytes)} of {size_text(total_bytes)}"
            with_peers = count_text(peers, "peer")
            bar.update(task, completed=here_bytes, total=total_bytes, sizes=sizes, beside=with_peers)

        yield update


def _transfer_bar() -> "AbstractContextManager[Bar]":
    """Return a bar of bytes, whose tasks have two fields: ``sizes``, and what is said ``beside``."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    return _bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[sizes]}"),
        _speed_column(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[beside]}"),
    )


@contextmanager
def commit_progress(what: str) -> "Iterator[Callable[[int, int], None] | None]":
    """Show a bar of bytes, which moves as the function given is told how many there are of how many in all."""
    if not shows_bars():
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    sizes = TextColumn("{task.fields[sizes]}")
    with _bar(TextColumn("{task.description}"), BarColumn(), sizes, _speed_column(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, sizes="", total=None, visible=False)

        def update(done_bytes: int, total_bytes: int) -> None:
            shown = f"{size_text(done_bytes)} of {size_text(total_bytes)}"
            bar.update(task, completed=done_bytes, total=total_bytes, sizes=shown, visible=total_bytes > 0)

        yield update


@contextmanager
def search_progress(what: str, unit: str, *, wanted: bool = True) -> Iterator[Callable[[int], None] | None]:
    """Show that something is looked through, and how many ``unit`` so far, as the function given is told."""
    if not (wanted and shows_bars()):
        yield None
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    counted = TextColumn("{task.completed:,.0f} " + unit)
    with _bar(SpinnerColumn(), TextColumn("{task.description}"), counted, TimeElapsedColumn()) as bar:
        task = bar.add_task(what, total=None)

        def update(count: int) -> None:
            bar.update(task, completed=count)

        yield update


@contextmanager
def _bar(*columns: "ProgressColumn") -> "Iterator[Bar]":
    """Show a bar; when it has ended, so has the thread that draws it."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    ended = Event()
    with Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:

        def draw() -> None:
            while not ended.wait(_DRAW_SECONDS):
                bar.refresh()

        drawing = Thread(target=draw, name="progress", daemon=True)  # rich's own is told to end, and not waited for
        drawing.start()
        try:
            yield bar
        finally:
            ended.set()
            drawing.join()


def _speed_column() -> "ProgressColumn":
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{size_text(int(speed))}/s")

    return Speed()
