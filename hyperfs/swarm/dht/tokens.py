"""Round-trip tokens: whoever sends one back has received what was sent to his address.

The one rule: nothing is kept for each asker; a token is a hash of his IP address and a secret that changes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from hyperfs.crypto import HASH_BYTES

ROTATION_SECONDS: Final = 300.0
"""A secret is the newest for so long, and is honoured for as long again."""


class Tokens:
    """Makes and checks tokens. ``random_bytes`` makes secrets."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._secrets = (random_bytes(HASH_BYTES), random_bytes(HASH_BYTES))

    def rotate(self) -> None:
        """Make a new secret; tokens of the one before the last are good no more."""
        self._secrets = (self._random_bytes(HASH_BYTES), self._secrets[0])

    def make(self, host: str) -> bytes:
        """Return the 32-byte token for whoever is at ``host``."""
        return _token(self._secrets[0], host)

    def check(self, token: bytes | None, host: str) -> bool:
        """Tell whether ``token`` was made for ``host`` not long ago."""
        return token is not None and any(hmac.compare_digest(_token(secret, host), token) for secret in self._secrets)


def _token(secret: bytes, host: str) -> bytes:
    return hashlib.blake2b(secret + host.encode(), digest_size=HASH_BYTES).digest()
