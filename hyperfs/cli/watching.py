"""``status --watch``: which drives and peers are at work, each second.

The rule: rates of drives are what came and went between two looks; those of peers the daemon measures.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hyperfs.cli.common import Common, run_with_running_daemon
from hyperfs.cli.output import drive_text, print_json_line, print_table, size_text, table_of, tell

if TYPE_CHECKING:
    from rich.console import Group

    from hyperfs.daemon.answers import DriveAtWork, PeerTold, Status
    from hyperfs.daemon.client import DaemonClient

LOOK_SECONDS = 1.0

Row = tuple[str, ...]
DRIVE_HEADINGS = ("drive", "here", "of", "wanted", "down", "up", "peers")
PEER_HEADINGS = ("peer", "down", "up", "asked", "round trip", "has")


class Rates:
    """What came and went of each drive since it was looked at before."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, int, int]] = {}

    def of(self, drive: "DriveAtWork", now: float) -> tuple[int, int]:
        """Return the bytes a second that came and that went, at ``now`` (seconds); 0 the first time."""
        since, here, sent = self._before.get(drive.key, (now, drive.local_bytes, drive.sent_bytes))
        self._before[drive.key] = (now, drive.local_bytes, drive.sent_bytes)
        seconds = now - since
        if seconds <= 0:
            return 0, 0
        return int(max(0, drive.local_bytes - here) / seconds), int(max(0, drive.sent_bytes - sent) / seconds)


def watch_status(common: Common) -> None:
    """Show what is at work until interrupted; with ``--json`` a line each time. `DaemonError` once the daemon ends."""

    async def run(client: "DaemonClient") -> bool:
        import trio

        from hyperfs.daemon.codec import to_plain

        rates = Rates()

        async def each_second(show: "Callable[[Status, list[Row]], None]") -> None:
            while True:
                found = await client.status()
                now = trio.current_time()
                show(found, [drive_row(drive, *rates.of(drive, now)) for drive in found.drives])
                await trio.sleep(LOOK_SECONDS)

        def print_plainly(found: "Status", drives: list[Row]) -> None:
            print_table(DRIVE_HEADINGS, drives)
            print_table(PEER_HEADINGS, map(peer_row, found.peers))
            sys.stdout.flush()

        def print_as_json(found: "Status", drives: list[Row]) -> None:
            print_json_line({"drives": list(map(to_plain, found.drives)), "peers": list(map(to_plain, found.peers))})
            sys.stdout.flush()

        if common.json or not sys.stdout.isatty():
            await each_second(print_as_json if common.json else print_plainly)
        else:
            from rich.live import Live

            with Live(auto_refresh=False, screen=True) as live:
                await each_second(lambda found, drives: live.update(_tables(found, drives), refresh=True))
        return True

    if not run_with_running_daemon(common, run):
        tell(f"no daemon runs for the store {common.store}")


def here_texts(drive: "DriveAtWork") -> tuple[str, str, str]:
    """Return a drive's version, and how much of its content is here, of how much."""
    is_whole = drive.blocks_here == drive.blocks
    part = "" if is_whole else f" ({100 * drive.local_bytes // max(1, drive.content_bytes)} %)"
    return str(drive.version), f"{size_text(drive.local_bytes)}{part}", size_text(drive.content_bytes)


def drive_row(drive: "DriveAtWork", down: int, up: int) -> Row:
    """Return what is shown of a drive at work, with its rates in bytes a second."""
    _, here, of = here_texts(drive)
    name = f"{drive.name or drive_text(drive.key)}{' (pinned)' if drive.pinned else ''}"
    wanted = drive.problem or (f"{drive.in_flight} blocks under way" if drive.waiting or drive.in_flight else "")
    return name, here, of, wanted, f"{size_text(down)}/s", f"{size_text(up)}/s", str(drive.peers)


def peer_row(peer: "PeerTold") -> Row:
    """Return what is shown of a peer."""
    trip = "" if peer.round_trip_seconds is None else f"{1000 * peer.round_trip_seconds:.0f} ms"
    has = ", ".join(
        f"{drive_text(one.key)} {100 * min(one.blocks, one.length) // max(1, one.length)} %" for one in peer.has
    )
    down, up = f"{size_text(int(peer.download_rate))}/s", f"{size_text(int(peer.upload_rate))}/s"
    return peer.name, down, up, str(peer.in_flight), trip, has


def _tables(found: "Status", drives: list[Row]) -> "Group":
    from rich.console import Group

    return Group(
        table_of(DRIVE_HEADINGS, drives, right=range(1, 7)),
        "",
        table_of(PEER_HEADINGS, list(map(peer_row, found.peers)), right=range(1, 5)),
    )
