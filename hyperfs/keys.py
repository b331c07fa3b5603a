"""Keys as people write them: hex digits, URLs of drives, and a version or a tag behind.

The rule: every form that is accepted is accepted here, and what is printed is always 64 lower-case hex digits.
See docs/formats.md, "Hashes and keys".
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from hyperfs.crypto import KEY_BYTES
from hyperfs.errors import InvalidKey

MAX_VERSION = (1 << 53) - 1
LEAST_DIGITS = 4
"""So many digits at least stand for the whole key that begins with them."""
MAX_NAME_BYTES = 255
_HEX_DIGITS = 2 * KEY_BYTES
_SCHEME = re.compile(r"(?:dat|hyper)://", re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]*")
_NAME_END = re.compile(r"(?=[+/])")
_SHORT = re.compile(r"[^+/:]+")
_VERSION = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class DriveAddress:
    """A drive's key with what was written behind it: at most one of ``version`` and ``tag``, and a ``path``.

    ``path`` has no slash in front and is empty when none was given.
    """

    key: bytes
    version: int | None = None
    tag: str | None = None
    path: str = ""

    def __str__(self) -> str:
        selector = self.tag if self.version is None else str(self.version)
        return (
            format_key(self.key) + ("" if selector is None else f"+{selector}") + (f"/{self.path}" if self.path else "")
        )


def format_key(key: bytes) -> str:
    """Return the one form in which hyperfs prints a key."""
    return key.hex()


def parse_key(text: str) -> bytes:
    """Return the 32 bytes of a key in any form. Raises `InvalidKey`, also when a version or a path is behind it."""
    address = parse_address(text)
    if address.version is not None or address.tag is not None:
        raise InvalidKey(f"{text!r} names a version, where only a key is meant")
    if address.path:
        raise InvalidKey(f"{text!r} names a path, where only a key is meant")
    return address.key


def parse_address(text: str) -> DriveAddress:
    """Parse ``KEY``, ``KEY+VERSION`` or ``KEY+TAG``, with a URL in front of the key and a path behind it or not.

    ``dat://``, ``hyper://`` and ``https://HOST/`` (any path before the key) may stand in front: then the path is that
    of a URL, in which %20 is a space. What follows a ``+`` is a version when it is all digits, else a tag. Raises
    `InvalidKey` with what is wrong.
    """
    is_url = bool(_SCHEME.match(text.strip()) or _WEB_ADDRESS.match(text.strip()))
    rest = _without_front(text.strip())
    digits = _HEX.match(rest)
    key_text = digits.group() if digits else ""
    if len(key_text) != _HEX_DIGITS:
        raise InvalidKey(_what_is_wrong(text, rest, key_text))
    rest = rest[_HEX_DIGITS:]
    version: int | None = None
    tag: str | None = None
    if rest.startswith("+"):
        selector, _, path = rest[1:].partition("/")
        if not selector:
            raise InvalidKey(f"{text!r} has a '+' with neither a version nor a tag behind it")
        if _VERSION.fullmatch(selector):
            version = int(selector)
            if not 1 <= version <= MAX_VERSION:
                reason = "versions are counted from 1" if version < 1 else "no drive has so many"
                raise InvalidKey(f"{text!r} names version {selector}; {reason}")
        else:
            tag = selector
    elif rest in ("", "/") or rest.startswith("/"):
        path = rest[1:]
    else:
        raise InvalidKey(f"{text!r} goes on behind the {_HEX_DIGITS} digits of the key with {rest[:8]!r}")
    if is_url:
        path = unquote(path, errors="surrogateescape")
    return DriveAddress(bytes.fromhex(key_text), version, tag, path.strip("/"))


def split_name(text: str) -> tuple[str, str] | None:
    """Return (name, what stands behind it) of ``dat://example.com+VERSION/path``; None for what names a key itself.

    A name has a dot; what stands behind it goes behind the key that it stands for.
    """
    text = text.strip()
    scheme = _SCHEME.match(text)
    rest = _NAME_END.split(text[scheme.end() :], maxsplit=1) if scheme else [""]
    return (rest[0], "".join(rest[1:])) if "." in rest[0] else None


def is_drive_name(text: str) -> bool:
    """Tell whether a drive can be called so here: what is neither a key, nor the beginning of one, nor needs quoting.

    It can be the name of a folder, too.
    """
    return (
        _SHORT.fullmatch(text) is not None
        and text.isprintable()
        and not any(letter.isspace() for letter in text)
        and text[0] not in "-."
        and not _HEX.fullmatch(text)
        and len(text.encode(errors="replace")) <= MAX_NAME_BYTES
    )


def split_short(text: str) -> tuple[str, str] | None:
    """Return (word, what stands behind it) of a drive that is given by its name here, or by its key's first digits.

    None for what can be neither.
    """
    scheme = _SCHEME.match(text)
    word, *behind = _NAME_END.split(text[scheme.end() :] if scheme else text, maxsplit=1)
    is_digits = LEAST_DIGITS <= len(word) < _HEX_DIGITS and _HEX.fullmatch(word)
    return (word, "".join(behind)) if is_digits or is_drive_name(word) else None


def _without_front(text: str) -> str:
    scheme = _SCHEME.match(text)
    if scheme:
        return text[scheme.end() :]
    web = _WEB_ADDRESS.match(text)
    if web is None:
        return text
    parts = text[web.end() :].split("/")
    for position, part in enumerate(parts):
        digits = _HEX.match(part)
        if position and digits and len(digits.group()) == _HEX_DIGITS:
            return "/".join(parts[position:])
    return parts[1] if len(parts) > 1 else ""


def _what_is_wrong(text: str, rest: str, digits: str) -> str:
    if len(digits) > _HEX_DIGITS:
        return f"{text!r} is not a key: {len(digits)} hex digits instead of {_HEX_DIGITS}"
    following = rest[len(digits) : len(digits) + 1]
    if following and following not in "+/":
        return f"{text!r} is not a key: {following!r} is not a hex digit; a key is {_HEX_DIGITS} of them"
    return f"{text!r} is not a key: {len(digits)} hex digits instead of {_HEX_DIGITS}"
