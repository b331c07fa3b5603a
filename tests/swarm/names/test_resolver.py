"""Names are looked up at a real name server and a real web server, which are believed for as long as they say."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from hyperfs.swarm.names import resolver as resolver_module
from hyperfs.swarm.names.cache import NameCache
from hyperfs.swarm.names.resolver import NameNotFound, NameResolver
from tests.support.name_servers import HERE, LoopbackNames, Site, Zone, name_server, web_server

NAME = "drive.example"
KEY = bytes(range(32))
OTHER = bytes(range(1, 33))
WELL_KNOWN = "/.well-known/dat"


@dataclass
class World:
    zone: Zone
    site: Site
    path: Path
    now: float = 1000.0

    def resolver(self, **options: str) -> NameResolver:
        return NameResolver(
            NameCache(self.path, now=lambda: self.now),
            name_servers=[HERE],
            dns_port=self.zone.port,
            https_port=self.site.port,
            tls=self.site.trust,
            **options,
        )

    def serve(self, text: str, status: int = 200, **headers: str) -> None:
        self.site.pages[WELL_KNOWN] = (status, headers, text.encode())

    async def failure(self) -> str:
        with pytest.raises(NameNotFound) as caught:
            await self.resolver().resolve(NAME)
        return str(caught.value)


@pytest.fixture
def site() -> Iterator[Site]:
    with web_server(NAME, "www.drive.example", HERE) as site:
        yield site


@pytest.fixture
async def world(site: Site, tmp_path: Path) -> AsyncIterator[World]:
    trio.socket.set_custom_hostname_resolver(LoopbackNames())
    with trio.fail_after(60):
        async with name_server() as zone:
            yield World(zone, site, tmp_path / "names.json")


async def test_a_txt_record_is_enough(world: World) -> None:
    world.zone.records[NAME] = ["v=spf1 -all", f"datkey={KEY.hex()}"]
    assert await world.resolver().resolve(NAME) == KEY
    assert world.site.asked == []


async def test_without_a_record_the_web_server_is_asked(world: World) -> None:
    world.zone.records[NAME] = []
    world.serve(f"dat://{KEY.hex()}\n")
    assert await world.resolver().resolve(NAME) == KEY


@pytest.mark.parametrize("records", [None, ["v=spf1 -all"]])
async def test_a_name_that_the_dns_knows_nothing_of_may_still_have_a_web_server(
    world: World, records: list[str] | None
) -> None:
    if records is not None:
        world.zone.records[NAME] = records
    world.serve(f"dat://{KEY.hex()}\n")
    assert await world.resolver().resolve(NAME) == KEY


async def test_what_was_found_is_not_asked_again_before_its_time(world: World) -> None:
    world.zone.records[NAME] = [f"datkey={KEY.hex()}"]
    for world.now in (1000.0, 1299.0):
        assert await world.resolver().resolve(NAME) == KEY
    assert world.zone.asked == 1
    world.zone.records[NAME] = [f"datkey={OTHER.hex()}"]
    world.now = 1301.0
    assert await world.resolver().resolve(NAME) == OTHER


async def test_what_is_not_to_be_kept_is_asked_each_time(world: World) -> None:
    world.serve(f"dat://{KEY.hex()}\nTTL=0\n")
    for _ in range(2):
        assert await world.resolver().resolve(NAME) == KEY
    assert len(world.site.asked) == 2


async def test_when_nobody_can_be_asked_what_was_true_last_counts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.zone.records[NAME] = [f"datkey={KEY.hex()}"]
    assert await world.resolver().resolve(NAME) == KEY
    world.zone.records.clear()
    world.now += 10_000
    assert await world.resolver().resolve(NAME) == KEY
    assert "taken for what it was last" in caplog.text


async def test_who_knows_what_was_true_last_does_not_wait_long_for_who_says_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.zone.records[NAME] = [f"datkey={KEY.hex()}"]
    assert await world.resolver().resolve(NAME) == KEY
    world.zone.silent = True
    world.now += 10_000
    monkeypatch.setattr(resolver_module, "DNS_SECONDS", 1000.0)
    monkeypatch.setattr(resolver_module, "KEPT_SECONDS", 0.1)
    assert await world.resolver().resolve(NAME) == KEY
    assert "nothing more was heard in 0.1 s" in caplog.text


async def test_dns_over_https_is_asked_instead(world: World) -> None:
    world.site.zone.records[NAME] = [f"datkey={KEY.hex()}"]
    server = f"https://{HERE}:{world.site.port}/dns-query"
    assert await world.resolver(dns_over_https=server).resolve(NAME) == KEY
    assert (world.zone.asked, world.site.zone.asked) == (0, 1)


async def test_who_is_not_found_is_told_all_that_was_tried(world: World) -> None:
    assert await world.failure() == (
        f"no drive is known by the name {NAME}: there is no such name in the DNS; "
        f"https://{NAME}:{world.site.port}{WELL_KNOWN} answers 404 Not Found"
    )


async def test_a_file_that_says_something_else_is_named(world: World) -> None:
    world.serve("<html>hello")
    assert "its first line is '<html>hello', not dat:// and a key" in await world.failure()


async def test_a_silent_name_server_is_waited_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "DNS_SECONDS", 0.1)
    world.zone.silent = True
    world.serve(f"dat://{KEY.hex()}\n")
    assert await world.resolver().resolve(NAME) == KEY


async def test_a_redirection_is_followed_to_https_only(world: World) -> None:
    world.serve("", 302, location=f"https://www.drive.example:{world.site.port}/elsewhere")
    world.site.pages["/elsewhere"] = (200, {}, f"dat://{KEY.hex()}\n".encode())
    assert await world.resolver().resolve(NAME) == KEY
    world.path.unlink()
    world.serve("", 302, location="http://www.drive.example/elsewhere")
    assert "which is not https" in await world.failure()


async def test_redirections_end(world: World) -> None:
    world.serve("", 302, location=WELL_KNOWN)
    assert "more than 5 redirections" in await world.failure()
    assert len(world.site.asked) == 6


async def test_a_certificate_for_another_name_is_not_believed(world: World) -> None:
    world.serve(f"dat://{KEY.hex()}\n")
    with pytest.raises(NameNotFound, match="certificate"):
        await world.resolver().resolve("other.example")


async def test_of_a_long_answer_only_the_beginning_is_read(world: World) -> None:
    world.serve(f"dat://{KEY.hex()}\n" + 10_000_000 * "x")
    assert await world.resolver().resolve(NAME) == KEY


async def test_a_name_without_an_address_is_told(world: World) -> None:
    with pytest.raises(NameNotFound, match="Name or service not known"):
        await world.resolver().resolve("gone.invalid")
