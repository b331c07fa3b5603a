"""Giving the kernel the bytes of a small file with the answer to its opening, so that it need not ask for them.

The rule: pages are given only of a file that nobody has open, and that the kernel has no pages of. Storing a page waits
for who has it locked, inline, so it must be nobody who waits for us: that is a read, a write or a mapping, and none of
them outlives the file's last handle, since the kernel sends RELEASE after it has the last answer.
"""

import logging

import pyfuse3

from hyperfs.drive.snapshot import OpenFile

logger = logging.getLogger(__name__)

SMALL_BYTES = 16 * 1024
"""What the kernel asks for at first when a file is read from its start: giving it costs no more than being asked."""


def give(number: int, file: OpenFile) -> bool:
    """Give the kernel all bytes of a file that nobody has open, if they are few and here; tell whether it has them."""
    if not 0 < file.size <= SMALL_BYTES:
        return False
    data = file.read_now(0, file.size)
    if data is None:
        return False
    try:
        pyfuse3.notify_store(number, 0, data)
    except OSError as error:
        logger.debug("inode %d: the kernel takes no pages: %s", number, error)
        return False
    return True
