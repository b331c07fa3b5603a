"""Sizes, times, durations, modes and counts as people write and read them.

The rule: one way to write each, in a terminal and in a browser.
"""

import re
import stat
import time


def size_text(size: int) -> str:
    """Return a number of bytes as people read it: ``999 B``, ``1.5 KiB``."""
    if size < 1000:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB", "PiB"):
        if value < 999.5:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def parse_size(text: str) -> int | None:
    """Return the bytes that ``text`` names, as ``500M``, ``1.5G`` or ``2TiB`` (by 1024), None when it names none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([KMGTP]?)(?:I?B)?", text.strip().upper())
    return int(float(found[1]) * 1024 ** " KMGTP".index(found[2] or " ")) if found else None


def time_text(milliseconds: int) -> str:
    """Return a time of the format in this machine's time zone, to the minute."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))
    except (OverflowError, ValueError, OSError):
        return "a time beyond any"


def day_text(milliseconds: int) -> str:
    """Return a time as `time_text`, shorter: the hour of one of today, the day of another."""
    text = time_text(milliseconds)
    day, _, hour = text.partition(" ")
    return hour if day == time.strftime("%Y-%m-%d") else day if hour.count(":") else text


def duration_text(seconds: float) -> str:
    """Return a duration as people read it."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def mode_text(mode: int) -> str:
    """Return a mode as ``ls -l`` prints it."""
    return stat.filemode(mode)


def count_text(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 file``, ``12,000 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
