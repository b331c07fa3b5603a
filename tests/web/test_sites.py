"""Host names and tokens: each drive is an origin of its own, and no other name is answered."""

import pytest

from hyperfs.web.sites import Site, Tokens, site_of

KEY = bytes(range(32))
LABEL = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq"


def test_a_drive_and_each_version_of_it_have_origins_of_their_own() -> None:
    assert Site(KEY, port=":8282").origin == f"http://{LABEL}.localhost:8282"
    assert Site(KEY, 12, ":8282").origin == f"http://12.{LABEL}.localhost:8282"
    assert Site(port=":8282").origin == "http://localhost:8282"


@pytest.mark.parametrize("site", [Site(), Site(port=":1"), Site(KEY), Site(KEY, port=":65535"), Site(KEY, 9, ":80")])
def test_the_host_of_a_site_names_it(site: Site) -> None:
    assert site_of(site.host + site.port) == site
    assert site_of((site.host + site.port).upper()) == site


@pytest.mark.parametrize("host", ["127.0.0.1:8282", "[::1]:8282", "localhost:8282"])
def test_the_list_is_at_this_machine_by_any_of_its_names(host: str) -> None:
    assert site_of(host) == Site(port=":8282")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "localhost.example.com",
        "evil.localhost",
        f"{LABEL}.example.com",
        f"{LABEL}.localhost.",
        f"{LABEL[:-1]}.localhost",
        f"{LABEL[:-1]}b.localhost",  # the same key with other bits behind its end
        f"0.{LABEL}.localhost",
        f"012.{LABEL}.localhost",
        f"9999999999999999.{LABEL}.localhost",
        f"x.{LABEL}.localhost",
        f"1.2.{LABEL}.localhost",
        "localhost:8282:1",
        "localhost:x",
        "user@localhost",
        "localhost/..",
        "127.0.0.2",
        "[::2]",
    ],
)
def test_no_other_name_is_answered(host: str) -> None:
    assert site_of(host) is None


def test_a_token_opens_its_own_drive_in_all_versions_and_nothing_else() -> None:
    tokens = Tokens(bytes(32))
    token = tokens.of(Site(KEY))
    assert tokens.opens(Site(KEY, 12, ":1"), token)
    for other in (Site(), Site(bytes(32))):
        assert not tokens.opens(other, token)
    for shown in ("", token[:-1], token + "0", "\udcff", "ü" * 32):
        assert not tokens.opens(Site(KEY), shown)
    assert not Tokens(b"\1" * 32).opens(Site(KEY), token)
