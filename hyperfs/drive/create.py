"""Making a new drive: two cores and a header.

The rule: what is made is what the reference makes, so that either implementation may go on with it.
"""

from hyperfs.core.store import Store
from hyperfs.trie import Header

DRIVE_SUBTYPE = "hyperdrive"


async def create_drive(store: Store) -> bytes:
    """Make a new, empty drive in ``store`` and return its key. It is on disk when this returns.

    Cancelled, cores may be in the store whose keys nobody was told; they hold nothing.
    """
    metadata = await store.create_core()
    content = await store.content_core(metadata.key)
    await content.sync()
    if metadata.length == 0:
        await metadata.append([Header(content.key, DRIVE_SUBTYPE).encode()], expected_length=0)
        await metadata.sync()
    return metadata.key
