"""Finding the key behind a name: a TXT record of it first, then a file that its web server has.

The rules: what was found is kept for as long as its owner allows; when nobody can be asked, what was true last counts,
with a line in the log. Everything that comes from outside has a bound in size and time.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Sequence
from typing import Final

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
import httpx2
import trio

from hyperfs.errors import HyperfsError, InvalidKey
from hyperfs.swarm.names.answers import WELL_KNOWN_PATH, NameAnswer, read_file, read_record
from hyperfs.swarm.names.cache import NameCache

logger = logging.getLogger(__name__)

DNS_SECONDS: Final = 5.0
HTTPS_SECONDS: Final = 10.0
KEPT_SECONDS: Final = 4.0
"""For how long whoever knows what was true last asks whether it still is."""
MAX_FILE_BYTES: Final = 4096
MAX_REDIRECTS: Final = 5


class NameNotFound(HyperfsError):
    """No key is known to stand behind a name."""


class NameResolver:
    """Finds keys of names. ``dns_over_https`` is the URL of a server to ask instead of the system's name servers.

    ``name_servers`` (addresses, asked at ``dns_port``) and ``https_port`` are other than usual in tests only, ``tls``
    says whom to trust.
    """

    def __init__(
        self,
        cache: NameCache,
        *,
        dns_over_https: str | None = None,
        name_servers: Sequence[str] | None = None,
        dns_port: int = 53,
        https_port: int = 443,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._cache = cache
        self._dns_over_https = dns_over_https
        self._name_servers = name_servers
        self._dns_port = dns_port
        self._https_port = https_port
        self._tls = tls

    async def resolve(self, name: str) -> bytes:
        """Return the 32-byte key behind a name that `as_name` has made. Raises `NameNotFound` with all that was tried.

        Cancelled, nothing is kept that was not before.
        """
        kept = self._cache.find(name)
        if kept is not None and self._cache.is_fresh(kept):
            return kept.key
        problems: list[str] = []
        with trio.move_on_after(math.inf if kept is None else KEPT_SECONDS) as limit:
            for ask in (self._ask_dns, self._ask_web):
                try:
                    answer = await ask(name)
                except _Failed as failure:
                    problems.append(str(failure))
                    continue
                self._cache.keep(name, answer)
                return answer.key
        if limit.cancelled_caught:
            problems.append(f"nothing more was heard in {KEPT_SECONDS:g} s")
        words = "; ".join(problems)
        if kept is not None:
            logger.warning("%s cannot be asked for, so it is taken for what it was last: %s", name, words)
            return kept.key
        raise NameNotFound(f"no drive is known by the name {name}: {words}")

    async def _ask_dns(self, name: str) -> NameAnswer:
        try:
            with trio.fail_after(DNS_SECONDS):
                rrsets = await self._txt_records(name)
        except trio.TooSlowError:
            raise _Failed(f"no name server answered in {DNS_SECONDS:g} s") from None
        except dns.resolver.NXDOMAIN:
            raise _Failed("there is no such name in the DNS") from None
        except dns.resolver.NoAnswer:
            raise _Failed("it has no TXT record with datkey=") from None
        except (dns.exception.DNSException, httpx2.HTTPError, OSError) as error:
            raise _Failed(f"the DNS says nothing of it ({_words(error)})") from error
        for rrset in rrsets:
            for record in rrset:
                text = b"".join(getattr(record, "strings", ())).decode(errors="replace")
                answer = read_record(text, rrset.ttl)
                if answer is not None:
                    return answer
        raise _Failed("it has no TXT record with datkey=")

    async def _txt_records(self, name: str) -> list[dns.rrset.RRset]:
        if self._dns_over_https is not None:
            question = dns.message.make_query(name, dns.rdatatype.TXT)
            async with httpx2.AsyncClient(verify=self._context(), http2=True) as client:
                response = await dns.asyncquery.https(question, self._dns_over_https, client=client)
            if response.rcode() == dns.rcode.NXDOMAIN:
                raise dns.resolver.NXDOMAIN
            return [rrset for rrset in response.answer if rrset.rdtype == dns.rdatatype.TXT]
        resolver = dns.asyncresolver.Resolver(configure=self._name_servers is None)
        if self._name_servers is not None:
            resolver.nameservers = list(self._name_servers)
            resolver.port = self._dns_port
        found = await resolver.resolve(name, dns.rdatatype.TXT, lifetime=DNS_SECONDS, search=False)
        return [] if found.rrset is None else [found.rrset]

    async def _ask_web(self, name: str) -> NameAnswer:
        port = "" if self._https_port == 443 else f":{self._https_port}"
        url = f"https://{name}{port}{WELL_KNOWN_PATH}"
        try:
            with trio.fail_after(HTTPS_SECONDS):
                return read_file(await self._fetch(url))
        except trio.TooSlowError:
            raise _Failed(f"{url} did not answer in {HTTPS_SECONDS:g} s") from None
        except InvalidKey as error:
            raise _Failed(f"{url}: {error}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _Failed(f"{url}: {_words(error)}") from error

    async def _fetch(self, url: str) -> str:
        """Return the beginning of a text, following redirections to other https addresses."""
        plain = {"accept-encoding": "identity"}  # nothing that could become more than what was sent
        async with httpx2.AsyncClient(verify=self._context(), timeout=HTTPS_SECONDS, headers=plain) as client:
            for _ in range(MAX_REDIRECTS + 1):
                async with client.stream("GET", url) as response:
                    if response.has_redirect_location:
                        following = response.url.join(response.headers["location"])
                        if following.scheme != "https":
                            raise _Failed(f"{url} leads to {following}, which is not https")
                        url = str(following)
                        continue
                    if response.status_code != httpx2.codes.OK:
                        raise _Failed(f"{url} answers {response.status_code} {response.reason_phrase}".rstrip())
                    text = bytearray()
                    with trio.CancelScope() as enough:  # what is only left off would not be closed inside the client
                        async for chunk in response.aiter_raw():
                            text += chunk
                            if len(text) >= MAX_FILE_BYTES:
                                enough.cancel()
                    return text[:MAX_FILE_BYTES].decode(errors="replace")
            raise _Failed(f"{url}: more than {MAX_REDIRECTS} redirections")

    def _context(self) -> ssl.SSLContext:
        return self._tls if self._tls is not None else ssl.create_default_context()


class _Failed(Exception):
    """One way to ask came to nothing; the text says why."""


def _words(error: BaseException) -> str:
    """Return what an error says, or the one behind it."""
    behind: BaseException | None = error
    while behind is not None:
        if str(behind):
            return str(behind)
        behind = behind.__cause__ or behind.__context__
    return type(error).__name__
