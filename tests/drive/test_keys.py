"""Every form of a key that people write, and what is said about the others."""

import pytest

from hyperfs.errors import InvalidKey
from hyperfs.keys import DriveAddress, format_key, is_drive_name, parse_address, parse_key, split_short

HEX = "64ba417c1b21e428fdea284f8d71d5281ff04d9517d4b37ef9356918a484e5c1"
KEY = bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        HEX.upper(),
        f" {HEX}\n",
        f"{HEX}/",
        f"dat://{HEX}",
        f"hyper://{HEX}/",
        f"HYPER://{HEX}",
        f"http://example.org/{HEX}",
        f"https://example.org/{HEX}/",
        f"https://example.org/drives/{HEX}",
    ],
)
def test_a_key_is_read_in_every_form(text: str) -> None:
    assert parse_key(text) == KEY


def test_a_path_may_stand_behind_the_key() -> None:
    assert parse_address(f"hyper://{HEX}/a/b c.txt") == DriveAddress(KEY, path="a/b c.txt")


def test_digits_behind_a_plus_are_a_version() -> None:
    assert parse_address(f"{HEX}+12") == DriveAddress(KEY, version=12)


def test_anything_else_behind_a_plus_is_a_tag() -> None:
    assert parse_address(f"dat://{HEX}+v1/docs") == DriveAddress(KEY, tag="v1", path="docs")


def test_an_address_is_written_as_it_is_read() -> None:
    address = DriveAddress(KEY, version=7, path="a/b")
    assert parse_address(str(address)) == address


def test_a_printed_key_is_lower_case_hex() -> None:
    assert format_key(KEY) == HEX


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 hex digits instead of 64"),
        (HEX[:-1], "63 hex digits instead of 64"),
        (HEX + "0", "65 hex digits instead of 64"),
        ("g" + HEX[1:], "'g' is not a hex digit"),
        (HEX + "+", "neither a version nor a tag"),
        (HEX + "+0", "counted from 1"),
        (HEX + f"+{1 << 53}", "no drive has so many"),
        (HEX + "?x", "goes on behind"),
        ("https://example.org/", "0 hex digits"),
        ("https://example.org", "0 hex digits"),
        ("é" * 64, "is not a hex digit"),
    ],
)
def test_what_is_not_a_key_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(InvalidKey, match=said.replace("+", r"\+")):
        parse_address(text)


@pytest.mark.parametrize("behind", ["+3", "+tag", "/path"])
def test_where_only_a_key_is_meant_nothing_may_stand_behind_it(behind: str) -> None:
    with pytest.raises(InvalidKey, match="only a key is meant"):
        parse_key(HEX + behind)


@pytest.mark.parametrize("name", ["photos", "my-photos_2.0", "bücher", "x", "abcg", "202x"])
def test_what_needs_no_quotes_and_is_no_key_can_be_a_name(name: str) -> None:
    assert is_drive_name(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a/b", "a+b", "a:b", "-x", ".x", "..", "abcd", "ABC", "a\nb", "a\x1bb", "ü" * 128, "a\u2003b"]
)
def test_what_could_be_taken_for_something_else_is_no_name(name: str) -> None:
    assert not is_drive_name(name)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("photos", ("photos", "")),
        ("photos+v1/a/b", ("photos", "+v1/a/b")),
        ("hyper://photos/a", ("photos", "/a")),
        ("64ba", ("64ba", "")),
        ("64BA417+12", ("64BA417", "+12")),
        (HEX[:63], (HEX[:63], "")),
        ("64b", None),
        (HEX + "0", None),
        ("https://example.org", None),
        ("a b", None),
        ("+12", None),
        ("", None),
    ],
)
def test_a_short_form_is_told_from_what_stands_behind_it(text: str, split: tuple[str, str] | None) -> None:
    assert split_short(text) == split


@pytest.mark.parametrize("front", ["hyper://", "dat://", "https://example.com/", "HYPER://"])
def test_the_path_of_a_url_is_decoded(front: str) -> None:
    address = parse_address(f"{front}{HEX}+v1/two%20words/%C3%BC%ff.txt")
    assert (address.tag, address.path) == ("v1", "two words/ü\udcff.txt")


def test_a_bare_path_is_what_it_is() -> None:
    assert parse_address(f"{HEX}/two%20words").path == "two%20words"
