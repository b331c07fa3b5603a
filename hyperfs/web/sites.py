"""Which site a request is for: the list of drives, or a drive, or one version of it, each at a host name of its own.

The rule: a host name that is none of these gets no answer, so that no name of somebody else's, wherever it points,
makes a browser ask here for him. All are names below ``localhost``, which browsers look for on this machine alone.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from hyperfs.crypto import KEY_BYTES
from hyperfs.keys import MAX_VERSION

HOME_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-f:]+\]|[0-9a-z.-]+)(:[0-9]{1,5})?", re.ASCII)
_DRIVE = re.compile(r"(?:([1-9][0-9]{0,15})\.)?([a-z2-7]{52})\.localhost", re.ASCII)
_TOKEN_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Site:
    """What stands at a host name: the list of drives (``key`` None), or drive ``key``, at ``version`` or the newest.

    ``port`` is what stands behind the name, with its colon; it need not be the one listened at (ssh -L).
    """

    key: bytes | None = None
    version: int | None = None
    port: str = ""

    @property
    def host(self) -> str:
        """The host name, without a port."""
        if self.key is None:
            return "localhost"
        version = "" if self.version is None else f"{self.version}."
        return f"{version}{_label(self.key)}.localhost"

    @property
    def origin(self) -> str:
        """The address without a path."""
        return f"http://{self.host}{self.port}"

    @property
    def subject(self) -> str:
        """What a token is for: all versions of a drive have the same."""
        return "home" if self.key is None else _label(self.key)


def site_of(host: str) -> Site | None:
    """Return the site that a ``Host`` header names, None for a name that is none of ours."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return None
    name, port = found[1], found[2] or ""
    if name in HOME_HOSTS:
        return Site(port=port)
    drive = _DRIVE.fullmatch(name)
    if drive is None:
        return None
    try:
        key = base64.b32decode(drive[2].upper() + "====")
    except ValueError:
        return None
    version = None if drive[1] is None else int(drive[1])
    if len(key) != KEY_BYTES or _label(key) != drive[2] or (version or 0) > MAX_VERSION:
        return None
    return Site(key, version, port)


class Tokens:
    """What one shows to be let in: another for each drive, and for the list of drives, all made of one secret.

    Whoever has the one of a drive, as its scripts do, can read that drive, and nothing else.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, site: Site) -> str:
        """Return the token for a site, 32 hex digits."""
        digest = hashlib.blake2b(site.subject.encode(), key=self._secret, digest_size=_TOKEN_BYTES)
        return digest.hexdigest()

    def opens(self, site: Site, shown: str) -> bool:
        """Tell whether ``shown`` is the token for a site; how long that takes says nothing about it."""
        return hmac.compare_digest(self.of(site).encode(), shown.encode(errors="replace"))


def _label(key: bytes) -> str:
    return base64.b32encode(key).decode().lower().rstrip("=")
