"""Opening the files of a core, and putting them in order after a crash.

The rule: what is opened is a signed tree: the last length for which all roots and a valid signature are on disk. What
lies beyond is cleared, durably, before anybody else sees the core; and a writer never opens behind its own signature.
See docs/formats.md, "A core's files".
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from hyperfs import flat_tree
from hyperfs.core.audit import bad_blocks, check_tree
from hyperfs.core.bitfield import PAGE_BLOCKS, PAGE_BYTES, Bitfield
from hyperfs.core.format import CoreFormat
from hyperfs.core.head_record import HeadRecord, RecordedHead, growth_of
from hyperfs.core.nonblocking import NonblockingFile
from hyperfs.core.proofs import tree_length
from hyperfs.core.sleep import (
    HEADER_BYTES,
    NODE_BYTES,
    SIGNATURE_BYTES,
    SignatureFile,
    TreeFile,
    check_header,
    header,
)
from hyperfs.crypto import KEY_BYTES, SECRET_KEY_BYTES, KeyPair
from hyperfs.errors import DamagedStore, InvalidKey, short
from hyperfs.storage import Directory, RandomAccessFile
from hyperfs.tree_node import TreeNode

log = logging.getLogger(__name__)

_SECTOR_BYTES = 512
_SCAN_BYTES = 1 << 16
_SCAN_NODES = 1 << 14


@dataclass(slots=True)
class CoreFiles:
    """The open files of one core and what they say. Owns the files, and the lock on `bitfield`."""

    directory: Directory
    format: CoreFormat
    key: bytes
    secret_key: bytes | None
    tree: TreeFile
    data: NonblockingFile
    signatures: SignatureFile
    bitfield_file: RandomAccessFile
    page_bytes: int
    bitfield: Bitfield
    roots: tuple[TreeNode, ...] = ()
    length: int = 0
    durable_length: int = 0
    """Up to where the files were in order on the disk."""
    recovered: RecordedHead | None = None
    """What made ``length`` longer than that: its signature is in no file yet, and its bits are in memory only."""
    named: bool = False
    """Whether the names of the files are durable."""

    def close(self) -> None:
        """Close all files and so let go of the lock."""
        for file in (self.tree.file, self.data.file, self.signatures.file, self.bitfield_file):
            file.close()

    def flush(self, signatures: Mapping[int, bytes], pages: list[tuple[int, bytes]]) -> None:
        """Make everything durable in the order that a crash may cut off anywhere: data and tree, then what says so."""
        self.data.file.sync()
        self.tree.file.sync()
        if not self.named:
            self.directory.sync()
            self.named = True
        if signatures:
            for index, signature in signatures.items():
                self.signatures.write(index, signature)
            self.signatures.file.sync()
        self.write_pages(pages)
        self.bitfield_file.sync()

    def write_pages(self, pages: list[tuple[int, bytes]]) -> None:
        """Write pages of the bitfield, neighbours together."""
        start = 0
        for position in range(1, len(pages) + 1):
            if position < len(pages) and pages[position][0] == pages[position - 1][0] + 1:
                continue
            offset = HEADER_BYTES + self.page_bytes * pages[start][0]
            self.bitfield_file.write(offset, b"".join([page for _, page in pages[start:position]]))
            start = position


def open_files(
    directory: Directory,
    core_format: CoreFormat,
    *,
    key: bytes | None,
    key_pair: KeyPair | None,
    keep_secret: bool,
    before_recovery: Callable[[bytes], None],
    record: HeadRecord | None,
) -> CoreFiles:
    """Open or create the files of a core and recover them. Waits for the disk.

    ``before_recovery`` gets the core's key once its lock is taken and before anything is cut off. What
    ``record`` has of a process that was killed is taken over as if it was appended now.

    Raises `StoreLocked`, `DamagedStore`, and `InvalidKey` when another core is stored here or none and no key is given.
    """
    with ExitStack() as on_failure:

        def opened(name: str) -> RandomAccessFile:
            file = directory.open(name, create=True)
            on_failure.callback(file.close)
            return file

        bitfield_file = opened("bitfield")
        bitfield_file.lock()
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
        _recover(files, claimed, record)
        on_failure.pop_all()
    return files


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
            _write_whole(directory, "secret_key", secret)
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
        file.write(0, content)
        try:
            file.sync()
        except OSError:
            file.truncate(0)  # or the next one would find it there, and take it to be on the disk
            raise
    finally:
        file.close()


def keep_secret_key(directory: Directory, secret_key: bytes) -> None:
    """Write the secret key of a core that had none. Waits for the disk."""
    _write_whole(directory, "secret_key", secret_key)
    directory.sync()


def _page_bytes(directory: Directory, file: RandomAccessFile) -> int:
    if _never_written(file):
        _write_header(file, header("bitfield", PAGE_BYTES))
        return PAGE_BYTES
    page_bytes = check_header(directory, "bitfield", file.read(0, HEADER_BYTES), None)
    if not 3072 < page_bytes <= PAGE_BYTES:
        raise DamagedStore(f"{directory.describe('bitfield')} states pages of {page_bytes} bytes, where 3584 are usual")
    return page_bytes


def _start_file(
    directory: Directory, name: str, file: RandomAccessFile, entry_bytes: int, algorithm: bytes, claimed: int
) -> None:
    if not claimed and _never_written(file):
        _write_header(file, header(name, entry_bytes, algorithm))
    check_header(directory, name, file.read(0, HEADER_BYTES), entry_bytes)


def _never_written(file: RandomAccessFile) -> bool:
    """Tell whether a file is new, or a crash came before its header was there: nothing is written before that."""
    if any(file.read(0, HEADER_BYTES)):
        return False
    size = file.size()
    return not any(any(file.read(offset, _SCAN_BYTES)) for offset in range(0, size, _SCAN_BYTES))


def _write_header(file: RandomAccessFile, content: bytes) -> None:
    file.write(0, content)
    file.sync()


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


def _recover(files: CoreFiles, claimed: int, record: HeadRecord | None) -> None:
    """Set length and roots to the last consistent ones, and clear what is beyond."""
    signed = _signed_beyond(files, claimed) if files.secret_key is not None else None
    if signed is not None:
        length, roots = signed
        _take_over_beyond(files, claimed, length)
    else:
        length, roots = _last_signed(files, claimed)
    if length < claimed:
        log.warning(
            "core %s: opened at length %d, not %d: what came later was cut off", short(files.key), length, claimed
        )
    files.length = files.durable_length = length
    files.roots = roots
    byte_length = sum(root.size for root in roots)
    if length and files.bitfield.get(length - 1) and files.data.file.size() < byte_length:
        raise DamagedStore(
            f"{files.data.name} is cut short: {files.data.file.size()} bytes, where it has {byte_length}"
        )
    spanning = _spanning(length)
    dirty = files.bitfield.cut(length)
    dirty = files.bitfield.clear_nodes(spanning) or dirty
    if dirty:
        files.write_pages(files.bitfield.take_dirty(files.page_bytes))
        files.bitfield_file.sync()
    if files.secret_key is not None:
        _take_over_torn(files)
        head = None if record is None else record.read()
        if head is not None and head.length > length:
            _take_over_recorded(files, head)
    _cut_off(files)


def _take_over_torn(files: CoreFiles) -> None:
    """Set the bits of our blocks in sectors of the bitfield that a power cut left older than those beside them.

    In such a sector the bits up to its end, or to the core's, are missing, and the blocks are there. Of blocks that
    were cleared nothing is, so looking at one for each sector tells.
    """
    bitfield, found = files.bitfield, False
    end = files.length
    while end:
        first = end
        place = None if bitfield.get(end - 1) else _roots(files, end, bitfield.has_node)
        start = sum(root.size for root in place or ())
        while place and first and not bitfield.get(first - 1):
            leaf = next(_file_nodes(files, 2 * first - 2, 2 * first - 1), None)
            if leaf is None or bad_blocks(files, [(leaf, start - leaf.size)]):
                break
            start -= leaf.size
            first -= 1
        if first < end:
            bitfield.set_blocks(first, end)
            found = True
        end = min(first, _first_in_sector(end - 1, files.page_bytes))
    if found:
        log.warning("core %s: the bitfield lacked blocks that are there", short(files.key))
        files.write_pages(bitfield.take_dirty(files.page_bytes))
        files.bitfield_file.sync()


def _first_in_sector(index: int, page_bytes: int) -> int:
    """Return the first block whose bit is in the same page and sector of the bitfield as that of block ``index``."""
    page = HEADER_BYTES + index // PAGE_BLOCKS * page_bytes
    sector = (page + index % PAGE_BLOCKS // 8) // _SECTOR_BYTES * _SECTOR_BYTES
    return index // PAGE_BLOCKS * PAGE_BLOCKS + 8 * max(0, sector - page)


def _take_over_recorded(files: CoreFiles, head: RecordedHead) -> None:
    """Extend a core by what a process that was killed had appended; none of it is made durable here.

    It may name blocks of another core, which have to be on the disk before.
    """
    growth = growth_of(files, files.length, files.roots, head)
    if growth is not None:
        growth.write(files.tree)
        growth.note_in(files.bitfield)
        files.length, files.roots, files.recovered = growth.end, growth.roots, head


def _cut_off(files: CoreFiles) -> None:
    """Clear what the files have beyond the core's length."""
    length, spanning = files.length, _spanning(files.length)
    byte_length = sum(root.size for root in files.roots)
    cut = [
        (files.tree.file, HEADER_BYTES + NODE_BYTES * max(0, 2 * length - 1)),
        (files.signatures.file, HEADER_BYTES + SIGNATURE_BYTES * length),
        (files.data.file, byte_length),
    ]
    for file, end in cut:
        if file.size() > end:
            file.truncate(end)
            file.sync()
    for tree_index in spanning:
        if files.tree.file.size() > HEADER_BYTES + NODE_BYTES * tree_index:
            files.tree.file.write(HEADER_BYTES + NODE_BYTES * tree_index, bytes(NODE_BYTES))


def _spanning(length: int) -> list[int]:
    """Return the nodes left of the end of a tree of ``length`` blocks that reach beyond it."""
    spanning = []
    for depth in range(1, length.bit_length() + 1):
        node = flat_tree.index(depth, length >> depth)
        if node < 2 * length:
            spanning.append(node)
    return spanning


def _signed_beyond(files: CoreFiles, claimed: int) -> tuple[int, tuple[TreeNode, ...]] | None:
    """Return the longest signed tree past what the bitfield has, if there is one."""
    for index, signature in files.signatures.descending(files.signatures.count()):
        if index < claimed:
            return None
        roots = _roots(files, index + 1, lambda tree_index: True)
        if roots is not None and files.format.verify(roots, index + 1, signature, files.key):
            return index + 1, roots
    return None


def _take_over_beyond(files: CoreFiles, claimed: int, length: int) -> None:
    """Set the bits of what a signature of ours covers and the bitfield lacks.

    A writer that stepped back behind its own signature would sign another tree of the same length, a fork. So what the
    crash, or the damage, left out of the bitfield is verified against the signed roots and taken over.
    """
    log.warning("core %s: the bitfield ends at %d of %d signed blocks", short(files.key), claimed, length)
    nodes = {node.tree_index: node for node in _file_nodes(files, 0, 2 * length - 1)}
    files.bitfield.set_nodes(node for node in nodes if flat_tree.right_span(node) < 2 * length)
    check_tree(files, length)
    start = sum(nodes[root].size for root in flat_tree.full_roots(claimed) if root in nodes)
    placed = []
    for index in range(claimed, length):
        leaf = nodes.get(2 * index)
        if leaf is None:
            raise DamagedStore(f"{files.tree.name} lacks node {2 * index}, which is signed; restore it from a copy")
        placed.append((leaf, start))
        start += leaf.size
    bad = set(bad_blocks(files, placed))
    for leaf, _ in placed:
        index = leaf.tree_index // 2
        if index not in bad:
            files.bitfield.set_blocks(index, index + 1)
    # In the file before anything else is: what is cut off next is cut off by the same length.
    files.write_pages(files.bitfield.take_dirty(files.page_bytes))
    files.bitfield_file.sync()


def _file_nodes(files: CoreFiles, start: int, end: int) -> Iterator[TreeNode]:
    """Yield the nodes that the tree file has of tree indices [start, end)."""
    for first in range(start, end, _SCAN_NODES):
        count = min(_SCAN_NODES, end - first)
        data = files.tree.file.read(HEADER_BYTES + NODE_BYTES * first, NODE_BYTES * count)
        for at in range(0, len(data) - NODE_BYTES + 1, NODE_BYTES):
            entry = data[at : at + NODE_BYTES]
            if any(entry):
                yield TreeNode(first + at // NODE_BYTES, entry[:32], int.from_bytes(entry[32:], "big"))


def _last_signed(files: CoreFiles, claimed: int) -> tuple[int, tuple[TreeNode, ...]]:
    for index, signature in files.signatures.descending(claimed):
        length = index + 1
        roots = _roots(files, length, files.bitfield.has_node)
        if roots is None:
            continue
        if files.format.verify(roots, length, signature, files.key):
            return length, roots
        if not _torn(index, signature):
            raise DamagedStore(
                f"{files.signatures.name}: the signature of {length} blocks is not that of the roots in "
                f"{files.tree.name}; one of the two is damaged. Restore it from a copy, or, if the core is not your "
                "own, remove its folder to fetch it again"
            )
    if claimed:
        raise DamagedStore(
            f"{files.signatures.name} and {files.tree.name} have no signed roots for any of the {claimed} blocks that "
            f"{files.directory.describe('bitfield')} has; restore them from a copy, or, if the core is not your own, "
            "remove its folder to fetch it again"
        )
    return 0, ()


def _roots(files: CoreFiles, length: int, has: Callable[[int], bool]) -> tuple[TreeNode, ...] | None:
    roots = []
    for tree_index in flat_tree.full_roots(length):
        if not has(tree_index):
            return None
        data = files.tree.file.read(HEADER_BYTES + NODE_BYTES * tree_index, NODE_BYTES)
        if len(data) < NODE_BYTES or not any(data):
            return None
        roots.append(TreeNode(tree_index, data[:32], int.from_bytes(data[32:], "big")))
    return tuple(roots)


def _torn(index: int, signature: bytes) -> bool:
    """Tell whether a sector's edge runs through the signature and one side of it was never written."""
    edge = -(HEADER_BYTES + SIGNATURE_BYTES * index) % _SECTOR_BYTES
    return 0 < edge < SIGNATURE_BYTES and not (any(signature[:edge]) and any(signature[edge:]))
