"""``python -I player.py SOURCE JSON``: play a film as a video player does, and print how that went.

SOURCE is a path or a URL; JSON are the `Habits`. It reads in order and ahead of what it shows, up to a limit, begins to
show once some seconds are here, and waits for as many again whenever it has nothing left to show.

What a `Playback` says follows from when which bytes came; nothing is shown. Prints ``{"startup", "stalls"}``: seconds,
and for each stall where in the film it was and how long it took.
"""

import http.client
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

READ_BYTES = 64 << 10


@dataclass(frozen=True)
class Habits:
    """What a player does: ``rate`` is in bytes a second of film, the rest in seconds of it.

    It begins to show once it has ``begin``, and reads no further ahead than ``most``.
    """

    rate: float
    begin: float = 2.0
    most: float = 10.0


@dataclass
class Playback:
    """What is seen of a film of which bytes come in order. Times are those of any clock, in seconds."""

    habits: Habits
    asked_at: float
    startup: float | None = None
    stalls: list[tuple[float, float]] = field(default_factory=list)
    _here: float = 0.0
    _shown: float = 0.0
    _showing_since: float | None = None
    _waiting_since: float = 0.0

    def received(self, size_bytes: int, now: float) -> None:
        """Take in the next ``size_bytes``, which came just ``now``; 0 for the end of the film."""
        self._show(now)
        self._here += size_bytes / self.habits.rate
        if self._showing_since is None and (self.ahead(now) >= self.habits.begin or not size_bytes):
            self._showing_since = now
            if self.startup is None:
                self.startup = now - self.asked_at
            elif self.ahead(now):
                self.stalls.append((self._shown, now - self._waiting_since))

    def ahead(self, now: float) -> float:
        """Return how many seconds of film are here and not shown yet."""
        self._show(now)
        return self._here - self._shown

    def _show(self, now: float) -> None:
        if self._showing_since is None:
            return
        shown = self._shown + now - self._showing_since
        if shown >= self._here:
            self._waiting_since = now - (shown - self._here)
            self._shown, self._showing_since = self._here, None
        else:
            self._shown, self._showing_since = shown, now


def play(read: Callable[[int], bytes], playback: Playback) -> None:
    """Read a film to its end, no further ahead than the player's habit is."""
    clock = time.monotonic
    while True:
        data = read(READ_BYTES)
        playback.received(len(data), clock())
        if not data:
            return
        time.sleep(max(0.0, playback.ahead(clock()) - playback.habits.most))


def opened(source: str) -> Callable[[int], bytes]:
    """Return what reads from a path or a URL."""
    if not source.startswith("http:"):
        descriptor = os.open(source, os.O_RDONLY)
        return lambda size: os.read(descriptor, size)
    url = urlsplit(source)
    connection = http.client.HTTPConnection(url.netloc)
    connection.request("GET", url.path)
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise OSError(f"{source}: {response.status} {response.reason}")
    return response.read


def main(source: str, habits: str) -> None:
    """Play and tell."""
    playback = Playback(Habits(**json.loads(habits)), time.monotonic())
    play(opened(source), playback)
    print(json.dumps({"startup": playback.startup, "stalls": playback.stalls}))


if __name__ == "__main__":
    main(*sys.argv[1:])
