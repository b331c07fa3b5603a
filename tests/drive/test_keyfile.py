"""Secret keys in files."""

import os
from pathlib import Path

import pytest

from hyperfs.crypto import key_pair
from hyperfs.drive.keyfile import (
    Cost,
    DriveKeys,
    decode_keys,
    encode_keys,
    is_sealed,
    read_key_file,
    seal_keys,
    write_key_file,
)
from hyperfs.errors import EncodingError, InvalidKey

DRIVE, CONTENT = key_pair(b"\x01" * 32), key_pair(b"\x02" * 32)
KEYS = DriveKeys(DRIVE.secret, CONTENT.secret, 12, 345)
CHEAP = Cost(1, 8192)


def test_what_was_written_is_read() -> None:
    assert decode_keys(encode_keys(KEYS)) == KEYS


def test_the_file_begins_with_its_kind_and_version() -> None:
    assert encode_keys(KEYS).startswith(b"hyperfs-secret-key 1\ndrive " + DRIVE.public.hex().encode())


def test_what_was_sealed_opens_with_the_passphrase() -> None:
    assert decode_keys(seal_keys(KEYS, "ünlock me", cost=CHEAP), "ünlock me") == KEYS


def test_what_was_sealed_shows_no_secret() -> None:
    sealed = seal_keys(KEYS, "x", cost=CHEAP)
    assert is_sealed(sealed)
    assert DRIVE.secret[:32].hex().encode() not in sealed


def test_a_wrong_passphrase_opens_nothing() -> None:
    with pytest.raises(InvalidKey, match="passphrase is not the one"):
        decode_keys(seal_keys(KEYS, "x", cost=CHEAP), "y")


def test_a_sealed_file_needs_a_passphrase() -> None:
    with pytest.raises(InvalidKey, match="sealed with a passphrase"):
        decode_keys(seal_keys(KEYS, "x", cost=CHEAP))


def test_a_sealed_file_cannot_ask_for_all_the_memory_there_is() -> None:
    sealed = seal_keys(KEYS, "x", cost=CHEAP).replace(b"argon2id 1 8192", b"argon2id 1 99999999999999")
    with pytest.raises(EncodingError, match="bytes of memory"):
        decode_keys(sealed, "x")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"ssh-rsa AAAA",
        encode_keys(KEYS)[:200],
        encode_keys(KEYS).replace(b"12", b"-5"),
        encode_keys(KEYS).replace(b"drive-secret ", b"drive-secret 00"),
        seal_keys(KEYS, "x", cost=CHEAP).replace(b"sealed ", b"sealed zz"),
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(EncodingError):
        decode_keys(content, "x")


def test_a_later_version_is_named() -> None:
    with pytest.raises(EncodingError, match="version 2"):
        decode_keys(encode_keys(KEYS).replace(b"key 1", b"key 2"))


def test_keys_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InvalidKey, match="not those of the drive"):
        decode_keys(encode_keys(KEYS).replace(b"drive " + DRIVE.public.hex().encode(), b"drive " + b"00" * 32))


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        write_key_file(path, encode_keys(KEYS))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_key_file_never_replaces_another(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key", b"one")
    with pytest.raises(FileExistsError):
        write_key_file(tmp_path / "key", b"two")
    assert (tmp_path / "key").read_bytes() == b"one"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    write_key_file(tmp_path / "key", encode_keys(KEYS))
    (tmp_path / "key").chmod(mode)
    with pytest.raises(InvalidKey, match="others may read"):
        read_key_file(tmp_path / "key")


def test_a_sealed_key_file_may_lie_anywhere(tmp_path: Path) -> None:
    write_key_file(tmp_path / "key", seal_keys(KEYS, "x", cost=CHEAP))
    (tmp_path / "key").chmod(0o644)
    assert is_sealed(read_key_file(tmp_path / "key"))


@pytest.mark.parametrize("content", [b"", b"a letter\nsealed with a kiss\n", b"\x7fELF", bytes(64)])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_that_is_no_key_file_is_said_to_be_none(tmp_path: Path, content: bytes, mode: int) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(mode)
    with pytest.raises(EncodingError, match="is not a key file of hyperfs"):
        read_key_file(tmp_path / "key")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidKey, match="not a regular file"):
        read_key_file(tmp_path / "pipe")


def test_keys_do_not_show_themselves() -> None:
    assert repr(KEYS) == f"DriveKeys({DRIVE.public.hex()[:8]})"
