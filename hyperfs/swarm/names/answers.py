"""What a name's owner says of it: text of a DNS record, or of a file that he serves.

The one rule: pure functions; what does not say a key plainly says none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hyperfs.errors import InvalidKey
from hyperfs.keys import parse_key

DEFAULT_TTL_SECONDS: Final = 3600
MAX_TTL_SECONDS: Final = 30 * 86_400
"""No answer is believed for longer, whatever it says."""
WELL_KNOWN_PATH: Final = "/.well-known/dat"
_RECORD: Final = re.compile(r"datkey=([0-9a-fA-F]{64})(?![0-9a-fA-F])")
_URL: Final = re.compile(r"(?:dat|hyper)://([0-9a-fA-F]{64})/?", re.IGNORECASE)
_TTL: Final = re.compile(r"ttl\s*=\s*([0-9]{1,12})\s*", re.IGNORECASE)
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


@dataclass(frozen=True, slots=True)
class NameAnswer:
    """The 32-byte key behind a name, and for how many seconds that may be believed (0: do not keep it)."""

    key: bytes
    ttl_seconds: int


def as_name(text: str) -> str | None:
    """Return ``text`` as the name of a host: lower case, no dot at the end, IDNA; None when it is none."""
    try:
        name = text.rstrip(".").encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return name if _NAME.fullmatch(name) else None


def read_record(text: str, ttl_seconds: int) -> NameAnswer | None:
    """Return what a TXT record says, None when it is about something else."""
    found = _RECORD.search(text)
    return None if found is None else NameAnswer(bytes.fromhex(found.group(1)), min(ttl_seconds, MAX_TTL_SECONDS))


def read_file(text: str) -> NameAnswer:
    """Return what a file at `WELL_KNOWN_PATH` says. Raises `InvalidKey` with what is wrong."""
    lines = text.splitlines()
    first = lines[0].strip() if lines else ""
    if not _URL.fullmatch(first):
        raise InvalidKey(f"its first line is {first[:80]!r}, not dat:// and a key of 64 hex digits")
    ttl = _TTL.fullmatch(lines[1].strip()) if len(lines) > 1 else None
    seconds = DEFAULT_TTL_SECONDS if ttl is None else int(ttl.group(1))
    return NameAnswer(parse_key(first.rstrip("/")), min(seconds, MAX_TTL_SECONDS))
