"""Keys as paths of digits: how a trie tells two keys apart.

Nothing here reads a node; what two paths have in common is one exclusive-or of two integers.

A key's parts are hashed (SipHash-2-4, 8 bytes each, joined). Digit 0 of the path says whether the entry is hidden, then
come four digits for each byte, two bits each from the low bits up, then digits 4 without end. Read as a little-endian
number the hash has digit i at its bits 2i - 2 and 2i - 1, so shifted up by two, with the hidden bit below, the number
has digit i at bits 2i and 2i + 1: the first digit at which two paths differ is the lowest bit of their exclusive-or.
Format: docs/formats.md, "The trie".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import siphash24

from hyperfs.errors import EncodingError

DIGITS_PER_PART = 32
PAST_END = 4
MAX_KEY_BYTES = 65_535
MAX_PARTS = 2048
"""Longer and deeper keys are refused, so that a hostile one costs no more to hash than an honest block does to fetch.
No path that Linux can be told has more parts."""

_ZERO_KEY = bytes(16)
_HASH_MASK = (1 << 64) - 1  # intdigest() is signed
_REMEMBERED_DIRECTORIES = 4096
_REMEMBERED_BYTES = 256
"""Longer folders' digits are made anew each time: what is remembered takes 6 MiB at most."""

PartHash = Callable[[bytes], int]


def part_hash(part: bytes) -> int:
    """Return one part's SipHash-2-4 under the all-zero key, its 8 bytes read as a little-endian number."""
    digest: int = siphash24.siphash24(part, key=_ZERO_KEY).intdigest()
    return digest & _HASH_MASK


def normalize(key: str) -> str:
    """Return ``key`` less one leading slash."""
    return key[1:] if key[:1] == "/" else key


def split(key: str) -> list[str]:
    """Return the parts of a normalized key; an empty first and last one do not count."""
    parts = key.split("/")
    if parts[0] == "":
        del parts[0]
    if parts and parts[-1] == "":
        del parts[-1]
    return parts


class Hashing:
    """Makes digits from keys; owns the memory of the folders it hashed last, since neighbours share them.

    Another ``hash_part`` than the format's is for tests that want collisions.
    """

    __slots__ = ("_directory", "_hash_part")

    def __init__(self, hash_part: PartHash = part_hash) -> None:
        self._hash_part = hash_part
        self._directory = lru_cache(_REMEMBERED_DIRECTORIES)(self._digits_of_directory)

    def digits(self, key: str) -> tuple[int, int]:
        """Return ``(digits of the visible path, number of parts)`` of a normalized key.

        Raises `EncodingError` for one of more than `MAX_PARTS` parts.
        """
        if key.count("/") >= MAX_PARTS:
            raise EncodingError(f"a key of more than {MAX_PARTS} parts: {key[:40]!r}…")
        directory, slash, name = key.rpartition("/")
        if not slash:
            return (self._hash_part(name.encode()) << 2, 1) if name else (0, 0)
        if not name or not directory:
            return self._digits_of_parts(split(key))
        hashed = self._directory if len(directory) <= _REMEMBERED_BYTES else self._digits_of_directory
        digits, count = hashed(directory)
        return digits | self._hash_part(name.encode()) << (64 * count + 2), count + 1

    def _digits_of_directory(self, directory: str) -> tuple[int, int]:
        # A folder's text is followed by a slash and a name, so a slash at its own end stands for an empty part.
        return self._digits_of_parts(split(directory + "/"))

    def _digits_of_parts(self, parts: list[str]) -> tuple[int, int]:
        hashes = b"".join([self._hash_part(part.encode()).to_bytes(8, "little") for part in parts])
        return int.from_bytes(hashes, "little") << 2, len(parts)


@dataclass(slots=True, eq=False)
class Path:
    """What a lookup looks for; never changed, and not frozen only because that doubles the cost of making one.

    ``key`` is normalized text, ``digits`` as the module describes, ``count`` its parts.
    """

    key: str
    digits: int
    count: int
    hidden: bool

    @classmethod
    def of(cls, key: str, hashing: Hashing, *, hidden: bool = False) -> "Path":
        """Return the path of ``key`` as a user writes it; raise `EncodingError` for what cannot be a key."""
        text = normalize(key)
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise EncodingError(f"{key!r} is not text that UTF-8 can hold, so it cannot be a key") from error
        if size > MAX_KEY_BYTES:
            raise EncodingError(f"a key of {size} bytes is longer than {MAX_KEY_BYTES}: {text[:40]!r}…")
        digits, count = hashing.digits(text)
        return cls(text, digits | hidden, count, hidden)

    @property
    def parts(self) -> list[str]:
        """The parts of the key."""
        return split(self.key)

    @property
    def length(self) -> int:
        """How many digits the path has: hidden, those of the hash, and the one past its end."""
        return DIGITS_PER_PART * self.count + 2

    def digit(self, position: int) -> int:
        """Return the digit at ``position``."""
        return digit(self.digits, self.count, position)


def digit(digits: int, count: int, position: int) -> int:
    """Return the digit at ``position`` of a path of ``count`` parts."""
    return PAST_END if position > DIGITS_PER_PART * count else (digits >> 2 * position) & 3


def first_difference(digits: int, count: int, other_digits: int, other_count: int) -> int:
    """Return the first position where two paths differ; for equal ones their length, 32 * count + 2."""
    if digits == other_digits:
        # Equal numbers of different lengths: the longer one's hash goes on with zeros.
        if count == other_count:
            return DIGITS_PER_PART * count + 2
        return DIGITS_PER_PART * min(count, other_count) + 1
    difference = digits ^ other_digits
    position = ((difference & -difference).bit_length() - 1) >> 1
    if count == other_count:
        return position
    return min(position, DIGITS_PER_PART * min(count, other_count) + 1)


def next_terminator(position: int) -> int:
    """Return the first position at or after ``position`` where a part ends: 32, 64, …"""
    return max(position + DIGITS_PER_PART - 1, DIGITS_PER_PART) // DIGITS_PER_PART * DIGITS_PER_PART


def is_terminator(position: int) -> bool:
    """Tell whether a part ends at ``position``, so that paths of equal digits may still belong to different keys."""
    return position > 0 and position % DIGITS_PER_PART == 0
