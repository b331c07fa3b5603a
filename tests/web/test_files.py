"""What HTTP asks of a file: which range, of which type, and whether it is still the same."""

import pytest

from hyperfs.core.reader import Run
from hyperfs.crypto import key_pair
from hyperfs.drive.snapshot import OpenFile
from hyperfs.web.archives import zip_time
from hyperfs.web.files import attachment, etag_of, guessed_type, http_date, is_text, range_of

from ..support.cores import writer


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=10-19", range(10, 20)),
        ("bytes=90-", range(90, 100)),
        ("bytes=90-1000", range(90, 100)),
        ("bytes=-10", range(90, 100)),
        ("bytes=-1000", range(100)),
        ("bytes= 5-6 ", range(5, 7)),
        ("bytes=100-", range(0)),
        ("bytes=-0", range(0)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=x-1", None),
        ("bytes=0-" + "9" * 30, None),
        ("blocks=0-1", None),
        ("", None),
    ],
)
def test_a_range_header_names_bytes_that_are_there(asked: str, found: range | None) -> None:
    assert range_of(asked, 100) == found


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-5", "bytes=0-0"])
def test_of_an_empty_file_no_range_can_be_had(asked: str) -> None:
    assert range_of(asked, 0) == range(0)


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("a.html", "text/html"),
        ("A.PNG", "image/png"),
        ("film.mkv", "video/x-matroska"),
        ("notes.md", "text/markdown"),
        ("a.tar.gz", "application/octet-stream"),  # what it is once unpacked is nothing to a browser
        ("Makefile", None),
        ("a.", None),
        ("a.nonesuch", None),
        (".png", "image/png"),
        ("data:text/html", None),
    ],
)
def test_a_name_says_of_which_type_a_file_is(name: str, type: str | None) -> None:
    assert guessed_type(name) == type


@pytest.mark.parametrize(
    ("beginning", "text"),
    [
        (b"#!/bin/sh\n\ttrue\r\n\x1b[1m", True),
        ("zwölf".encode(), True),
        (b"a" * 1023 + "ö".encode()[:1], True),
        ("ö".encode()[:1], False),
        (b"\x7fELF\x02\x01\x01\0", False),
        (b"a\xff", False),
    ],
)
def test_text_is_told_from_what_is_none(beginning: bytes, text: bool) -> None:
    assert is_text(beginning) == text


async def test_an_etag_is_of_the_place_in_the_log() -> None:
    core = await writer()
    one = OpenFile(core, Run(range(1, 3), 10, 20))
    assert etag_of(one) == etag_of(OpenFile(core, Run(range(1, 3), 10, 20)))
    assert etag_of(one).startswith('"')
    for run in (Run(range(1, 4), 10, 20), Run(range(1, 3), 11, 20), Run(range(1, 3), 10, 21)):
        assert etag_of(OpenFile(core, run)) != etag_of(one)
    assert etag_of(OpenFile(await writer(keys=key_pair()), one.run)) != etag_of(one)


@pytest.mark.parametrize("time", [-1, 0, 1 << 62])
def test_a_drive_may_give_any_time(time: int) -> None:
    assert http_date(time).endswith("GMT")
    assert 1980 <= zip_time(time)[0] <= 2107


def test_the_name_of_a_download_is_quoted() -> None:
    assert attachment('a"\r\nb ü.txt') == "attachment; filename*=UTF-8''a%22%0D%0Ab%20%C3%BC.txt"
