"""The HTTP server: where it listens, and how it ends.

The rule: only programs of this machine reach it; what others on this machine see of it without the token is nothing.
"""

import errno
import logging
import os
import secrets
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_asgi
from hypercorn.typing import ASGIFramework

from hyperfs.daemon.client import DaemonClient
from hyperfs.errors import UsageError
from hyperfs.web.app import make_app
from hyperfs.web.drives import Drives
from hyperfs.web.guard import TOKEN_PARAMETER
from hyperfs.web.sites import Site, Tokens

DEFAULT_PORT: Final = 8282
_HOSTS: Final = (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))
_SECRET_BYTES: Final = 32
_GRACE_SECONDS: Final = 0.5
_SILENT_MS: Final = 600_000
"""Who takes nothing of what is sent for so long is cut off."""


def listen(port: int) -> list[socket.socket]:
    """Return sockets that listen at ``port`` (0: any that is free) of this machine's own addresses.

    Raises `UsageError` when something else is there.
    """
    found: list[socket.socket] = []
    for host, family in _HOSTS:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
            listener.bind((host, port))
            listener.listen()  # now, so that whoever is told the address is not turned away
        except OSError as error:
            listener.close()
            if found and error.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
                continue  # a machine without IPv6, or a port that is free for IPv4 alone
            for other in found:
                other.close()
            raise UsageError(f"cannot listen at {host}:{port}: {error.strerror}; choose another --web-port") from error
        port = listener.getsockname()[1]
        found.append(listener)
    return found


def read_secret(path: Path) -> bytes:
    """Return the secret from which all tokens are made; the first time, make it. Raises `OSError`."""
    with suppress(FileNotFoundError):
        secret = path.read_bytes()
        if len(secret) == _SECRET_BYTES:
            return secret
        path.unlink()  # a crash while it was written
    secret = secrets.token_bytes(_SECRET_BYTES)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    return secret


async def serve(
    client: DaemonClient,
    listeners: list[socket.socket],
    *,
    timeout_seconds: float,
    until: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Show the drives of the client's store until ``until`` returns; the task's status is the address to begin with.

    The listeners are its own from now on.
    """
    secret = await trio.to_thread.run_sync(read_secret, client.places.own / "web.secret")
    tokens = Tokens(secret)
    port = listeners[0].getsockname()[1]
    home = Site(port=f":{port}")
    config = Config()
    config.bind = [f"fd://{listener.detach()}" for listener in listeners]
    config.accesslog = None
    config.errorlog = logging.getLogger("hyperfs.web.server")
    config.include_server_header = False
    config.graceful_timeout = _GRACE_SECONDS
    app = make_app(Drives(client, timeout_seconds=timeout_seconds), tokens)
    async with trio.open_nursery() as nursery:

        async def ended() -> None:
            await until()
            nursery.start_soon(_break_off, port)

        task_status.started(f"{home.origin}/?{TOKEN_PARAMETER}={tokens.of(home)}")
        await serve_asgi(cast(ASGIFramework, app), config, shutdown_trigger=ended, mode="asgi")
        nursery.cancel_scope.cancel()


async def _break_off(port: int) -> None:
    """End the connections that are still there after a moment: the server waits for whoever does not read."""
    await trio.sleep(2 * _GRACE_SECONDS)
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    if connection.getsockname()[1:2] == (port,):
                        connection.shutdown(socket.SHUT_RDWR)
