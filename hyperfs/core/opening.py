"""Opening the files of a core, or making them.

The rule: a file that a crash left half made is made again, and one that is something else is refused, by name.
See docs/formats.md, "A core's files".
"""

from collections.abc import Callable
from contextlib import ExitStack, suppress

from hyperfs.core.bitfield import PAGE_BYTES, Bitfield
from hyperfs.core.files import CoreFiles
from hyperfs.core.format import CoreFormat
from hyperfs.core.head_record import HeadRecord
from hyperfs.core.nonblocking import NonblockingFile
from hyperfs.core.proofs import tree_length
from hyperfs.core.recovery import recover
from hyperfs.core.sleep import HEADER_BYTES, SIGNATURE_BYTES, SignatureFile, TreeFile, check_header, header
from hyperfs.crypto import KEY_BYTES, SECRET_KEY_BYTES, KeyPair
from hyperfs.errors import DamagedStore, InvalidKey, short
from hyperfs.storage import Directory, RandomAccessFile
from hyperfs.tree_node import NODE_BYTES

_SCAN_BYTES = 1 << 16


def open_files(
    directory: Directory,
    core_format: CoreFormat,
    *,
    key: bytes | None,
    key_pair: KeyPair | None,
    keep_secret: bool,
    before_recovery: Callable[[bytes], None],
    record: HeadRecord | None,
    overwrite: bool = False,
) -> CoreFiles:
    """Open or create the files of a core and recover them. Waits for the disk.

    With ``overwrite`` what was there is gone. ``before_recovery`` gets the core's key once its lock is taken and before
    anything is cut off. What ``record`` has of a process that was killed is taken over as if it was appended now.

    Raises `StoreLocked`, `DamagedStore`, and `InvalidKey` when another core is stored here or none and no key is given.
    """
    with ExitStack() as on_failure:

        def opened(name: str) -> RandomAccessFile:
            file = directory.open(name, create=True)
            on_failure.callback(file.close)
            return file

        bitfield_file = opened("bitfield")
        bitfield_file.lock()
        if overwrite:
            _empty(directory, record)
        found_key, secret_key = _keys(directory, key, key_pair, keep_secret=keep_secret)
        before_recovery(found_key)
        page_bytes = _page_bytes(directory, bitfield_file)
        tree = TreeFile(opened("tree"), directory.describe("tree"))
        data = NonblockingFile(opened("data"), directory.describe("data"))
        signatures = SignatureFile(opened("signatures"), directory.describe("signatures"))
        files = CoreFiles(
            directory, core_format, found_key, secret_key, tree, data, signatures, bitfield_file, page_bytes, Bitfield()
        )
        _load_bitfield(files)
        claimed = tree_length(files.bitfield.has_node, files.bitfield.tree_end())
        _start_file(directory, "tree", tree.file, NODE_BYTES, core_format.hash_algorithm, claimed)
        _start_file(directory, "signatures", signatures.file, SIGNATURE_BYTES, core_format.signature_algorithm, claimed)
        recover(files, claimed, record)
        on_failure.pop_all()
    return files


def stored_key(directory: Directory) -> bytes | None:
    """Return the 32-byte key of the core in ``directory``, or None. Waits for the disk. Raises `DamagedStore`."""
    return _read_whole(directory, "key", KEY_BYTES)


def _empty(directory: Directory, record: HeadRecord | None) -> None:
    """Empty the files of a core; the keys first, so that nobody goes on with what is left of it after a crash."""
    if record is not None and record.read() is not None:
        record.clear()
    for name in ("secret_key", "key", "signatures", "tree", "data", "bitfield"):
        try:
            file = directory.open(name)
        except FileNotFoundError:
            continue
        try:
            file.truncate(0)
            file.sync()
        finally:
            file.close()


def _keys(
    directory: Directory, key: bytes | None, key_pair: KeyPair | None, *, keep_secret: bool
) -> tuple[bytes, bytes | None]:
    """Return the public and the secret key, from the files or as given, and write what is new."""
    given = key_pair.public if key_pair else key
    if key is not None and given != key:
        raise InvalidKey(f"the key pair given is not that of core {short(key)}")
    stored = _read_whole(directory, "key", KEY_BYTES)
    if stored is None and given is None:
        raise InvalidKey(f"no core is stored in {directory.describe('')}, and no key is given to make one")
    if stored is not None and given is not None and stored != given:
        raise InvalidKey(f"{directory.describe('')} holds core {short(stored)}, not {short(given)}")
    public = stored or given
    assert public is not None
    secret = _read_whole(directory, "secret_key", SECRET_KEY_BYTES)
    if secret is not None and secret[KEY_BYTES:] != public:
        raise DamagedStore(f"{directory.describe('secret_key')} is not the secret key of core {short(public)}")
    if key_pair is not None and secret is None:
        secret = key_pair.secret
        if keep_secret:
            keep_secret_key(directory, secret)
    elif stored is None and secret is not None:
        directory.sync()  # it was made before, and that may have failed at its name
    if stored is None:
        _write_whole(directory, "key", public)
    return public, secret


def _read_whole(directory: Directory, name: str, size: int) -> bytes | None:
    """Return a small file's content, None when it is absent, or empty or zeros (a crash while it was made)."""
    try:
        file = directory.open(name)
    except FileNotFoundError:
        return None
    try:
        found = file.size()
        content = file.read(0, size)
    finally:
        file.close()
    if not any(content):
        return None
    if len(content) != size:
        raise DamagedStore(f"{directory.describe(name)} is cut short: {found} bytes, where it should have {size}")
    return content


def _write_whole(directory: Directory, name: str, content: bytes) -> None:
    file = directory.open(name, create=True)
    try:
        _write_durably(file, content)
    finally:
        file.close()


def keep_secret_key(directory: Directory, secret_key: bytes) -> None:
    """Write the secret key of a core that had none, durably: its public key may be known before the core is synced."""
    _write_whole(directory, "secret_key", secret_key)
    directory.sync()


def _page_bytes(directory: Directory, file: RandomAccessFile) -> int:
    if _never_written(file):
        _write_durably(file, header("bitfield", PAGE_BYTES))
        return PAGE_BYTES
    page_bytes = check_header(directory, "bitfield", file.read(0, HEADER_BYTES), None)
    if not 3072 < page_bytes <= PAGE_BYTES:
        raise DamagedStore(f"{directory.describe('bitfield')} states pages of {page_bytes} bytes, where 3584 are usual")
    return page_bytes


def _start_file(
    directory: Directory, name: str, file: RandomAccessFile, entry_bytes: int, algorithm: bytes, claimed: int
) -> None:
    if not claimed and _never_written(file):
        _write_durably(file, header(name, entry_bytes, algorithm))
    check_header(directory, name, file.read(0, HEADER_BYTES), entry_bytes)


def _never_written(file: RandomAccessFile) -> bool:
    """Tell whether a file is new, or a crash came before its header was there: nothing is written before that."""
    if any(file.read(0, HEADER_BYTES)):
        return False
    size = file.size()
    return not any(any(file.read(offset, _SCAN_BYTES)) for offset in range(0, size, _SCAN_BYTES))


def _write_durably(file: RandomAccessFile, content: bytes) -> None:
    """Write all that a file has. What is not all of it, or may not be on the disk, is not left for the next opening."""
    try:
        file.write(0, content)
        file.sync()
    except OSError:
        with suppress(OSError):
            file.truncate(0)
        raise


def _load_bitfield(files: CoreFiles) -> None:
    page_bytes = files.page_bytes
    size = files.bitfield_file.size()
    step = 64 * page_bytes
    offset = HEADER_BYTES
    while (found := files.bitfield_file.next_data(offset)) < size:
        first = max(0, found - HEADER_BYTES) // page_bytes
        offset = HEADER_BYTES + first * page_bytes
        data = files.bitfield_file.read(offset, step)
        for number, at in enumerate(range(0, len(data), page_bytes), first):
            # A page that a crash cut short is as good as one whose rest is zero.
            files.bitfield.load(number, data[at : at + page_bytes])
        offset += step
