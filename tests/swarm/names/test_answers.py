"""A name's owner says a key plainly, or none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperfs.errors import InvalidKey
from hyperfs.swarm.names.answers import MAX_TTL_SECONDS, NameAnswer, as_name, read_file, read_record

KEY = bytes(range(32))
BITS = [
    "datkey=",
    "dat://",
    "hyper://",
    "ttl=",
    "9" * 13,
    "/",
    "\n",
    "\r",
    "\x00",
    "\u2028",
    ".",
    "xn--",
    "é",
    KEY.hex(),
]
HEX = KEY.hex()


@pytest.mark.parametrize("text", [f"datkey={HEX}", f"datkey={HEX.upper()}", f"v=1; datkey={HEX}; more"])
def test_a_record_with_a_key_says_it(text: str) -> None:
    assert read_record(text, 60) == NameAnswer(KEY, 60)


@pytest.mark.parametrize("text", ["", "v=spf1 -all", f"datkey={HEX[:-1]}", f"datkey={HEX}0", f"key={HEX}", HEX])
def test_a_record_about_something_else_says_none(text: str) -> None:
    assert read_record(text, 60) is None


@pytest.mark.parametrize(
    ("text", "ttl"),
    [
        (f"dat://{HEX}", 3600),
        (f"dat://{HEX}/\nTTL=60\n", 60),
        (f"hyper://{HEX}\r\nttl=0\r\n", 0),
        (f"dat://{HEX}\nsomething else", 3600),
        (f"dat://{HEX}\nTTL=99999999999", MAX_TTL_SECONDS),
    ],
)
def test_a_file_says_a_key_and_for_how_long(text: str, ttl: int) -> None:
    assert read_file(text) == NameAnswer(KEY, ttl)


@pytest.mark.parametrize("text", ["", "<html>", f"dat://{HEX[:-1]}", f"dat://{HEX}0", f"\ndat://{HEX}", HEX])
def test_a_file_that_does_not_begin_with_a_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey, match="its first line is"):
        read_file(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("a_b.example.com", "a_b.example.com"),
        ("localhost", None),
        ("1.2.3.4", None),
        ("exa mple.com", None),
        ("example..com", None),
        ("-a.com", None),
        ("a" * 64 + ".com", None),
        ("", None),
        ("a/b.com", None),
    ],
)
def test_what_is_the_name_of_a_host(text: str, name: str | None) -> None:
    assert as_name(text) == name


@given(st.lists(st.one_of(st.sampled_from(BITS), st.text(max_size=20))).map("".join))
def test_any_text_says_a_key_or_none(text: str) -> None:
    found = [read_record(text, 60)]
    with suppress(InvalidKey):
        found.append(read_file(text))
    for answer in found:
        assert answer is None or (len(answer.key) == 32 and 0 <= answer.ttl_seconds <= MAX_TTL_SECONDS)
    name = as_name(text)
    assert name is None or as_name(name) == name
