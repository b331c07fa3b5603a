"""Addresses of peers, as people write them: ``HOST:PORT``, with brackets around an IPv6 address.

The rule: what is accepted here is what `format_address` prints, or comes back from it unchanged.
"""

from hyperfs.errors import UsageError


def parse_address(text: str, *, default_port: int | None = None) -> tuple[str, int]:
    """Return host and port; the ``default_port``, if one is given, where only a host stands.

    Raises `UsageError` with what is wrong.
    """
    text = text.strip()
    if default_port is not None and text and (":" not in text or (text.startswith("[") and text.endswith("]"))):
        text = f"{text}:{default_port}"
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise UsageError(f"{text!r} is not an address: write HOST:PORT, for example 192.0.2.7:3282")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"{text!r} is not an address: write an IPv6 address in brackets, as in [2001:db8::7]:3282")
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise UsageError(f"{text!r} is not an address: {port!r} is not a port between 0 and 65535")
    return host, int(port)


def format_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
