"""A port for TCP and UDP alike."""

import errno
import random
import socket
from typing import Final

DEFAULT_PORT: Final = 3282
_PORTS: Final = range(16384, 32768)
"""Below those that systems give to whoever asks for any: what is kept has to be free at the next start, too."""
_ATTEMPTS: Final = 64


def is_free(port: int, *, tcp: bool = True, udp: bool = True) -> bool:
    """Tell whether a port, of all addresses, can be listened at just now by TCP and by UDP, as far as that matters."""
    return (not tcp or _can_bind(socket.SOCK_STREAM, port)) and (not udp or _can_bind(socket.SOCK_DGRAM, port))


def free_port() -> int:
    """Return a port that can be listened at by TCP and by UDP just now. Raises OSError when there is none."""
    for _ in range(_ATTEMPTS):
        port = random.choice(_PORTS)
        if is_free(port):
            return port
    raise OSError(errno.EADDRINUSE, "no port is free for TCP and UDP alike")


def _can_bind(kind: int, port: int) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        if kind == socket.SOCK_DGRAM and family == socket.AF_INET6:
            continue  # the DHT knows IPv4 alone
        try:
            with socket.socket(family, kind) as sock:
                if kind == socket.SOCK_STREAM:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the real listener does
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("", port))
                if kind == socket.SOCK_STREAM:
                    sock.listen(1)  # only now it is told that another one listens
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            if family == socket.AF_INET:
                raise
    return True
