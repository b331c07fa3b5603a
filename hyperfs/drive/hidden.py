"""What the hidden nodes of a drive say: its tags, and which drives are mounted in it.

The rule: an author may put there as much as he likes. What says nothing, or is too much, is left out, and told of.
"""

from hyperfs import varint
from hyperfs.drive import names
from hyperfs.drive.dirents import LeftOut
from hyperfs.drive.stat import MOUNT_FLAG, MountTarget, decode_mount_record
from hyperfs.drive.volume import MountTable
from hyperfs.errors import EncodingError
from hyperfs.trie import Trie

MOUNTS_PREFIX = "mounts"
TAGS_PREFIX = "hyperdrive-tags"
MAX_MOUNTS_TEXT = 4 * 1024 * 1024
"""What the paths of all mounted drives and of the directories above them may take, in characters."""


async def read_tags(trie: Trie) -> tuple[dict[str, int], LeftOut]:
    """Return the tags of a drive, each with the version it names, by name in order; and what is left out."""
    found: dict[str, int] = {}
    left_out = LeftOut()
    async for node in trie.iterate(TAGS_PREFIX, hidden=True):
        name = node.key.lstrip("/")[len(TAGS_PREFIX) + 1 :]
        try:
            found[name] = varint.decode(node.value or b"")[0]
        except EncodingError:
            left_out.add(name, "it names no version")
    return dict(sorted(found.items())), left_out


async def read_tag(trie: Trie, name: str) -> int | None:
    """Return the version that tag ``name`` names; None: there is no such tag. Raises `EncodingError`."""
    node = await trie.get(f"{TAGS_PREFIX}/{name}", hidden=True)
    return None if node is None else varint.decode(node.value or b"")[0]


async def read_mounts(trie: Trie) -> tuple[MountTable, LeftOut]:
    """Return the drives that are mounted in one, and what is left out."""
    targets: dict[str, MountTarget] = {}
    left_out = LeftOut()
    text = 0
    async for node in trie.iterate(MOUNTS_PREFIX, hidden=True):
        path = names.normalise(node.key)[len(MOUNTS_PREFIX) + 1 :]
        if not path or node.flags != MOUNT_FLAG:
            continue
        text += len(path) * (path.count("/") + 2)
        if text > MAX_MOUNTS_TEXT:
            left_out.add(path, "there are too many, and the rest is not looked at")
            break
        try:
            targets[path] = decode_mount_record(node.value)
        except EncodingError as error:
            left_out.add(path, str(error))
    return MountTable(targets), left_out
