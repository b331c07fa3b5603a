"""A name server and a web server of a test's own, which say what they are told to say.

The one rule: both are real: UDP and TLS on loopback, with a certificate that only the test trusts.
"""

import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import trio
import trustme

HERE = "127.0.0.1"


@dataclass(slots=True)
class Zone:
    """TXT records by name, with their TTL. ``asked`` counts the questions; ``silent`` answers none of them."""

    records: dict[str, list[str]] = field(default_factory=dict)
    ttl_seconds: int = 300
    asked: int = 0
    silent: bool = False
    port: int = 0

    def answer(self, wire: bytes) -> bytes:
        """Return the answer to a question."""
        self.asked += 1
        question = dns.message.from_wire(wire)
        name = question.question[0].name
        response = dns.message.make_response(question)
        texts = self.records.get(name.to_text(omit_final_dot=True))
        if texts is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif texts:
            quoted = [f'"{text}"' for text in texts]
            response.answer.append(
                dns.rrset.from_text(name, self.ttl_seconds, dns.rdataclass.IN, dns.rdatatype.TXT, *quoted)
            )
        return response.to_wire()


@asynccontextmanager
async def name_server() -> AsyncIterator[Zone]:
    """Serve a zone by UDP at ``zone.port`` of loopback."""
    zone = Zone()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((HERE, 0))
        zone.port = sock.getsockname()[1]

        async def serve() -> None:
            while True:
                wire, asker = await sock.recvfrom(4096)
                if not zone.silent:
                    await sock.sendto(zone.answer(wire), asker)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield zone
            nursery.cancel_scope.cancel()


@dataclass(slots=True)
class Site:
    """What a web server has: (status, headers, body) by path. ``authority`` has signed its certificate."""

    pages: dict[str, tuple[int, dict[str, str], bytes]]
    authority: trustme.CA
    zone: Zone = field(default_factory=Zone)
    """What it answers at /dns-query."""
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client needs to believe it."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def write_authority(self, path: Path) -> Path:
        """Write what a client needs to believe it, for ``SSL_CERT_FILE``; return where."""
        self.authority.cert_pem.write_to_path(str(path))
        return path


@contextmanager
def web_server(*names: str) -> Iterator[Site]:
    """Serve a site by HTTPS at ``site.port`` of loopback, with a certificate for ``names``."""
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(served)
    site = Site({}, authority)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            status, headers, body = site.pages.get(self.path, (404, {}, b""))
            self._send(status, headers, body)

        def do_POST(self) -> None:
            wire = self.rfile.read(int(self.headers["content-length"]))
            self._send(200, {"content-type": "application/dns-message"}, site.zone.answer(wire))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with _Server((HERE, 0), Handler) as server:
        server.socket = served.wrap_socket(server.socket, server_side=True)
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    """Closing it waits for the threads that answer."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may go before he has heard all."""


class LoopbackNames(trio.abc.HostnameResolver):
    """Every name is this machine's, but those that end in ``.invalid``."""

    async def getaddrinfo(  # type: ignore[override]  # what a test asks is text and numbers
        self, host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[object]:
        """Return 127.0.0.1."""
        await trio.lowlevel.checkpoint()
        text = host.decode() if isinstance(host, bytes) else host
        if text.endswith(".invalid"):
            raise OSError(-2, "Name or service not known")
        return [(trio.socket.AF_INET, type or trio.socket.SOCK_STREAM, 6, "", (HERE, int(port)))]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        """Nobody asks."""
        raise OSError(-2, "Name or service not known")
