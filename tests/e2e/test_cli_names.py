"""A drive is named by a name, at a real server of DNS over HTTPS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperfs.cli.names import key_of_name
from hyperfs.errors import UsageError

from ..support.commands import Hyperfs, hyperfs_in
from ..support.name_servers import HERE, Site, web_server

NAME = "drive.example"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with web_server(NAME, HERE) as site:
        yield site


@pytest.fixture(scope="module")
def hyperfs(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hyperfs]:
    directory = tmp_path_factory.mktemp("names")
    environment = {
        "HYPERFS_DNS_OVER_HTTPS": f"https://{HERE}:{site.port}/dns-query",
        "SSL_CERT_FILE": str(site.write_authority(directory / "authority.pem")),
        "XDG_CACHE_HOME": str(directory / "cache"),
    }
    with hyperfs_in(directory, **environment) as hyperfs:
        yield hyperfs


def test_a_name_stands_for_a_key_wherever_one_is_taken(hyperfs: Hyperfs, site: Site, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("hello\n")
    key = hyperfs("import", tmp_path).strip().splitlines()[0]
    site.zone.records[NAME] = [f"datkey={key}"]
    assert hyperfs("cat", f"dat://{NAME}/hello") == "hello\n"
    assert hyperfs("ls", f"hyper://{NAME}+2") == hyperfs("ls", f"{key}+2")
    assert site.zone.asked == 1


@pytest.mark.parametrize(
    ("given", "status", "problem"),
    [
        ("dat://gone.example", 1, "no drive is known by the name gone.example: there is no such name in the DNS"),
        ("dat://a..b", 2, "'a..b' is neither a key nor the name of a host"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(hyperfs: Hyperfs, given: str, status: int, problem: str) -> None:
    assert problem in hyperfs.fails("ls", given, status=status)


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1/dns-query", "https://[", "https:///dns-query"])
def test_whom_to_ask_has_to_be_a_server_that_nobody_in_between_can_answer_for(url: str) -> None:
    with pytest.raises(UsageError, match="is not the URL of a server"):
        key_of_name("drive.example", dns_over_https=url)
