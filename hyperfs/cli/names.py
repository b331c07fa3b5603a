"""The key behind a drive's name, as in ``dat://example.com``, for whatever command is given one."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import trio

from hyperfs.errors import InvalidKey, UsageError
from hyperfs.swarm.names.answers import as_name
from hyperfs.swarm.names.cache import NameCache
from hyperfs.swarm.names.resolver import NameResolver


def key_of_name(text: str, *, dns_over_https: str | None) -> bytes:
    """Return the 32-byte key behind a name. Raises `InvalidKey` for what is none, `NameNotFound`, `UsageError`.

    ``dns_over_https`` is the URL of a server to ask instead of the system's name servers.
    """
    name = as_name(text)
    if name is None:
        raise InvalidKey(f"{text!r} is neither a key nor the name of a host, as in dat://example.com")
    if dns_over_https is not None and not _is_https(dns_over_https):
        raise UsageError(
            f"--dns-over-https: {dns_over_https!r} is not the URL of a server, as in https://dns.example/dns-query"
        )
    return trio.run(NameResolver(NameCache(cache_path()), dns_over_https=dns_over_https).resolve, name)


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def cache_path() -> Path:
    """Return the file in which answers are kept: ``hyperfs/names.json`` in the XDG cache home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "hyperfs" / "names.json"
