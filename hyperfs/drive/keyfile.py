"""A drive's secret keys in a file of their own: as text that only its owner may read, or sealed with a passphrase.

The rule: a file that anybody else could read is neither written nor believed, unless it is sealed. The format is stated
in docs/formats.md, "Key files".
"""

import os
import stat as st
from dataclasses import dataclass
from pathlib import Path

from nacl import pwhash, secret
from nacl.exceptions import CryptoError

from hyperfs.crypto import KEY_BYTES, SECRET_KEY_BYTES, key_pair
from hyperfs.errors import EncodingError, InvalidKey

MAGIC = "hyperfs-secret-key"
VERSION = 1
MAX_SECRET_BYTES = 4096
"""No file that `what_secret_in` recognises is longer."""
_MAX_FILE_BYTES = 64 * 1024
_MAGIC_BYTES = MAGIC.encode()
_MAX_OPERATIONS = 64
_MAX_MEMORY_BYTES = 1 << 30
_TITLE = f"{MAGIC} {VERSION}"
_KEYS = {"drive": KEY_BYTES, "content": KEY_BYTES, "drive-secret": SECRET_KEY_BYTES, "content-secret": SECRET_KEY_BYTES}
_LENGTHS = ("drive-length", "content-length")


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to try one passphrase, for argon2id: operations, and bytes of memory."""

    operations: int = pwhash.argon2id.OPSLIMIT_MODERATE
    memory_bytes: int = pwhash.argon2id.MEMLIMIT_MODERATE


@dataclass(frozen=True, slots=True)
class DriveKeys:
    """Both secret keys (64 bytes each) of a drive, and how many blocks its cores had when they were saved."""

    drive_secret: bytes
    content_secret: bytes
    drive_length: int
    content_length: int

    @property
    def key(self) -> bytes:
        """The drive's key."""
        return self.drive_secret[KEY_BYTES:]

    @property
    def content_key(self) -> bytes:
        """The key of its content."""
        return self.content_secret[KEY_BYTES:]

    def __repr__(self) -> str:
        return f"DriveKeys({self.key.hex()[:8]})"


def encode_keys(keys: DriveKeys) -> bytes:
    """Return the file for ``keys``, not sealed."""
    return "\n".join((_TITLE, *_lines(keys), "")).encode()


def seal_keys(keys: DriveKeys, passphrase: str, *, cost: Cost = Cost()) -> bytes:
    """Return the file for ``keys``, to be opened with ``passphrase``. Takes about a second, on purpose."""
    salt = os.urandom(pwhash.argon2id.SALTBYTES)
    box = secret.SecretBox(_stretch(passphrase, salt, cost))
    sealed = bytes(box.encrypt("\n".join(_lines(keys)).encode()))
    lines = (
        _TITLE,
        f"drive {keys.key.hex()}",
        f"argon2id {cost.operations} {cost.memory_bytes} {salt.hex()}",
        f"sealed {sealed.hex()}",
        "",
    )
    return "\n".join(lines).encode()


def is_sealed(content: bytes) -> bool:
    """Tell whether a key file needs a passphrase."""
    return b"\nsealed " in content


def decode_keys(content: bytes, passphrase: str | None = None) -> DriveKeys:
    """Read a key file.

    Raises `EncodingError` when it is none, or of a later version, and `InvalidKey` when the passphrase is wrong or the
    keys do not belong together.
    """
    try:
        title, *lines = content.decode("ascii").splitlines()
    except ValueError as error:
        raise EncodingError("that is not a key file of hyperfs: it is not text") from error
    magic, _, version = title.partition(" ")
    if magic != MAGIC or not version.isdigit():
        raise EncodingError("that is not a key file of hyperfs")
    if int(version) != VERSION:
        raise EncodingError(f"the key file is of version {version}, and this hyperfs reads version {VERSION}")
    fields = _fields(lines)
    if "sealed" in fields:
        fields = _fields(_open(fields, passphrase).decode("ascii", "replace").splitlines())
    try:
        values = {name: bytes.fromhex(fields[name]) for name in _KEYS}
        lengths = [int(fields[name]) for name in _LENGTHS]
    except (KeyError, ValueError) as error:
        raise EncodingError(f"the key file is damaged: {error}") from error
    keys = DriveKeys(values["drive-secret"], values["content-secret"], *lengths)
    if any(len(values[name]) != size for name, size in _KEYS.items()) or min(lengths) < 0:
        raise EncodingError("the key file is damaged: a key is not as long as keys are")
    if keys.key != values["drive"] or keys.content_key != values["content"]:
        raise InvalidKey("the key file is damaged: its secret keys are not those of the drive that it names")
    return keys


def what_secret_in(content: bytes) -> str | None:
    """Return what secret a file with ``content`` would give away: the secret key of a core, or a key file; or None."""
    if len(content) == SECRET_KEY_BYTES and key_pair(content[:KEY_BYTES]).secret == content:
        return "it is a secret key"
    if content.startswith(_MAGIC_BYTES) and b"-secret " in content[:MAX_SECRET_BYTES]:
        return "it is a file of secret keys that is not sealed"
    return None


def write_key_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read. Raises FileExistsError, OSError; durable on return."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:  # an interrupt leaves no half file either
        path.unlink()
        raise


def read_key_file(path: Path) -> bytes:
    """Return what a key file holds.

    Raises `EncodingError` when it is none, `InvalidKey` when others may read it and it is not sealed; OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not st.S_ISREG(status.st_mode):
            raise InvalidKey(f"{path} is not a regular file")
        content = file.read(_MAX_FILE_BYTES)
    if not content.startswith(_MAGIC_BYTES):
        raise EncodingError(f"{path} is not a key file of hyperfs: those begin with {MAGIC!r}")
    if not is_sealed(content) and (status.st_mode & 0o077 or status.st_uid not in (os.geteuid(), 0)):
        raise InvalidKey(
            f"{path} holds secret keys that others may read (mode {status.st_mode & 0o7777:04o}); if nobody did, make "
            "it yours alone (chmod 600) and try again"
        )
    return content


def _lines(keys: DriveKeys) -> tuple[str, ...]:
    return (
        f"drive {keys.key.hex()}",
        f"content {keys.content_key.hex()}",
        f"drive-secret {keys.drive_secret.hex()}",
        f"content-secret {keys.content_secret.hex()}",
        f"drive-length {keys.drive_length}",
        f"content-length {keys.content_length}",
    )


def _fields(lines: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}


def _open(fields: dict[str, str], passphrase: str | None) -> bytes:
    if passphrase is None:
        raise InvalidKey("the key file is sealed with a passphrase")
    try:
        operations, memory_bytes, salt = fields["argon2id"].split()
        cost = Cost(int(operations), int(memory_bytes))
        sealed = bytes.fromhex(fields["sealed"])
        if not (0 < cost.operations <= _MAX_OPERATIONS and 0 < cost.memory_bytes <= _MAX_MEMORY_BYTES):
            raise EncodingError(f"the key file asks for {cost.memory_bytes} bytes of memory to try a passphrase")
        key = _stretch(passphrase, bytes.fromhex(salt), cost)
        return bytes(secret.SecretBox(key).decrypt(sealed))
    except CryptoError as error:
        raise InvalidKey("the passphrase is not the one that the key file was sealed with") from error
    except (KeyError, ValueError) as error:
        raise EncodingError(f"the key file is damaged: {error}") from error


def _stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    return bytes(
        pwhash.argon2id.kdf(
            secret.SecretBox.KEY_SIZE,
            passphrase.encode("utf-8", "surrogateescape"),
            salt,
            opslimit=cost.operations,
            memlimit=cost.memory_bytes,
        )
    )
