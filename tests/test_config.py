"""Files of options: what is read, in which line something stands, and whose files are refused."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperfs import config
from hyperfs.config import MAX_BYTES, ConfigError, read_config, read_file, user_path

SOMEBODY = 65534


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    return str(caught.value)


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert read_file(tmp_path / "nowhere/config.toml") is None


def test_a_folder_that_is_a_file_has_no_file_in_it(tmp_path: Path) -> None:
    written(tmp_path / "file", "")
    assert read_file(tmp_path / "file/config.toml") is None


def test_the_users_file_comes_before_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(config, "SYSTEM_PATH", written(tmp_path / "etc/config.toml", "timeout = 1"))
    written(tmp_path / "hyperfs/config.toml", "timeout = 2")
    assert [file.values for file in read_config()] == [{"timeout": 2}, {"timeout": 1}]


def test_the_users_file_is_in_the_configuration_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ada/settings")
    assert user_path() == Path("/home/ada/settings/hyperfs/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/ada")
    assert user_path() == Path("/home/ada/.config/hyperfs/config.toml")


def test_without_a_home_there_is_no_file_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr("hyperfs.config.os.path.expanduser", lambda path: path)  # as it is for whom nobody knows
    assert user_path() is None
    assert all(file.path == config.SYSTEM_PATH for file in read_config())


TEXT = """\
# a comment
timeout = 5

peer = [
  # "not:1",
  "a:1",
  "b:2",
]
dns-over-https = '''
https://example.org/'''   # [mount]
mount.umask = "022"
fetch = { idle = 3 }

["key export"]

passphrase = true
# \u2028 is no end of a line
[daemon]
idle = 9
"""
LINES = [
    (2, ("timeout",)),
    (4, ("peer",)),
    (9, ("dns-over-https",)),
    (11, ("mount", "umask")),
    (11, ("mount",)),
    (12, ("fetch", "idle")),
    (14, ("key export",)),
    (16, ("key export", "passphrase")),
    (18, ("daemon",)),
    (19, ("daemon", "idle")),
]


@pytest.mark.parametrize(("line", "keys"), LINES, ids=str)
def test_the_line_in_which_a_value_begins_is_found(line: int, keys: tuple[str, ...], tmp_path: Path) -> None:
    file = read_file(written(tmp_path / "config.toml", TEXT))
    assert file is not None
    assert file.line_of(*keys) == line


VALUES = [
    '""',
    r'"\""',
    '"# [{"',
    r"'\'",
    "'\"'",
    '"""\n"a" ]\n""\n\\"""\n\\\\""""',
    "'''\n''\n\\''''",
    '""""""',
    '[ [1, 2], # ]\n { a = \']\' },\n """\n]\n"""\n]',
    "{ a = [\n], b = '}' }",
    "1 # '''",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_ends_where_toml_has_it_end(value: str, tmp_path: Path) -> None:
    file = read_file(written(tmp_path / "config.toml", f"first = {value}\nsecond = 2\n"))
    assert file is not None
    assert file.line_of("second") == value.count("\n") + 2


@pytest.mark.parametrize("value", ['"""' + 8000 * "]\n" + '"""', "[" + 5000 * "1,\n" + "]"], ids=["text", "list"])
def test_of_a_long_value_each_line_is_read_once(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_file(written(tmp_path / "config.toml", f"long = {value}\nlast = 1\n"))
    assert file is not None
    parsed: list[str] = []
    loads = tomllib.loads

    def count(text: str) -> dict[str, object]:
        parsed.append(text)
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", count)
    assert file.line_of("last") == value.count("\n") + 2
    assert sum(map(len, parsed)) <= MAX_BYTES


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\nb = \n", "config.toml:2: this is not TOML: Invalid value"),
        ("a = 1\na = 2\n", "config.toml:2: this is not TOML: Cannot overwrite a value"),
        ("a = 1\n\nb = [", "config.toml:3: this is not TOML: "),
        (b"a = 1\nb = '\xff'\n", "config.toml:2: this is not UTF-8"),
        ("a = " + 3000 * "[", "config.toml: what it says is nested too deep"),
        (5000 * "a." + "a = 1", "config.toml: what it says is nested too deep"),
        ("#" * (MAX_BYTES + 1), f"config.toml: is longer than {MAX_BYTES} bytes"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str | bytes, problem: str, tmp_path: Path) -> None:
    assert problem_of(written(tmp_path / "config.toml", text)).startswith(f"{tmp_path}/{problem}")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError, match="is no file"):
        read_file(tmp_path / "config.toml")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    assert problem_of(tmp_path / "config.toml") == f"{tmp_path}/config.toml: is no file"


def _belongs_to_somebody(path: Path) -> None:
    os.chown(path, SOMEBODY, -1)


def _in_folder_of_somebody(path: Path) -> None:
    os.chown(path.parent, SOMEBODY, -1)


def _link_into_folder_of_somebody(path: Path) -> None:
    target = written(path.parent / "of somebody/file", path.read_bytes())
    os.chown(target.parent, SOMEBODY, -1)
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("give_away", [_belongs_to_somebody, _in_folder_of_somebody, _link_into_folder_of_somebody])
def test_what_belongs_to_somebody_else_is_refused(give_away: Callable[[Path], None], tmp_path: Path) -> None:
    path = written(tmp_path / "hyperfs/config.toml", "timeout = 5")
    assert read_file(path) is not None
    give_away(path)
    assert f"belongs to user {SOMEBODY}" in problem_of(path)


@pytest.mark.parametrize("mode", [0o020, 0o002])
@pytest.mark.parametrize("name", ["hyperfs/config.toml", "hyperfs"])
def test_what_others_may_write_to_is_refused(name: str, mode: int, tmp_path: Path) -> None:
    path = written(tmp_path / "hyperfs/config.toml", "timeout = 5")
    (tmp_path / name).chmod(0o700 | mode)
    assert f"`chmod go-w {tmp_path / name}`" in problem_of(path)


def test_what_nobody_else_may_read_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path / "config.toml", "timeout = 5")
    monkeypatch.setattr("hyperfs.config.os.open", refuse)
    assert problem_of(path) == f"{path}: cannot be read: Permission denied"
