"""What an import or an export says that it left out."""

import pytest

from hyperfs.cli.transfer import _tell_skipped
from hyperfs.drive.scan import Skipped


def told(skipped: list[Skipped], capsys: pytest.CaptureFixture[str], *, names_all: bool = False) -> list[str]:
    _tell_skipped(skipped, names_all=names_all)
    return capsys.readouterr().err.splitlines()


def test_one_file_is_named_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert told([Skipped("a", "it is a device")], capsys) == ["hyperfs: left out: a: it is a device"]


@pytest.mark.parametrize("names_all", [False, True])
def test_many_files_share_their_reason(capsys: pytest.CaptureFixture[str], names_all: bool) -> None:
    missing = [
        Skipped(f"f{number:02}", f"not all of it is here: block {number} of core 12ab34cd: no peer sent it within 5 s")
        for number in range(1, 13)
    ]
    lines = told([*missing, Skipped("a", "it is a device")], capsys, names_all=names_all)
    names = [f"hyperfs: left out: f{number:02}" for number in range(1, 13)]
    assert lines == [
        "hyperfs: 12 left out: not all of it is here: no peer sent it within 5 s",
        *(names if names_all else [*names[:10], "hyperfs: and 2 more: -v names them all"]),
        "hyperfs: left out: a: it is a device",
    ]
