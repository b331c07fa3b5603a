"""What the wire costs: the sans-I/O connection alone, both ends in this process, no sockets and no disks.

Run it with the project's interpreter: python bench/protocol.py. For each kind of traffic it prints microseconds of
Python for a message on the side that writes it and on the side that reads it, frame and cipher included, when messages
come in batches as they do from a socket, and what the bare cipher takes of that.
"""

import time
from collections.abc import Callable

from hyperfs import crypto
from hyperfs.protocol.channel import Channel
from hyperfs.protocol.cipher import XSalsa20
from hyperfs.protocol.connection import Connection

KEY = crypto.key_pair(bytes(32)).public
SEGMENT_BYTES = 65536
ROUNDS = 7


def open_pair() -> tuple[Connection, Connection, Channel, Channel]:
    """Return two connections with one channel open between them."""
    left, right = Connection(initiator=True), Connection(initiator=False)

    def pump() -> None:
        while left.pending_output or right.pending_output:
            right.receive(left.take_output())
            left.receive(right.take_output())

    pump()
    ours = left.open_channel(KEY)
    pump()
    theirs = right.open_channel(KEY)
    pump()
    assert ours is not None
    assert theirs is not None
    return left, right, ours, theirs


def measure(write: Callable[[Channel, int], None], count: int, batch: int) -> tuple[float, float, int]:
    """Return the seconds for a message on the writing and the reading side, the best of some rounds, and its bytes.

    ``batch`` messages are written before their output is taken; it is read in segments as a socket gives them.
    """
    best_write = best_read = float("inf")
    size = 0
    for _ in range(ROUNDS):
        left, right, channel, _ = open_pair()
        writing = reading = 0.0
        size = received = 0
        for begin in range(0, count, batch):
            started = time.perf_counter()
            for index in range(begin, begin + batch):
                write(channel, index)
            output = left.take_output()
            writing += time.perf_counter() - started
            size += len(output)
            segments = [bytes(output[at : at + SEGMENT_BYTES]) for at in range(0, len(output), SEGMENT_BYTES)]
            started = time.perf_counter()
            for segment in segments:
                received += len(right.receive(segment))
            reading += time.perf_counter() - started
        assert received == count
        best_write, best_read = min(best_write, writing), min(best_read, reading)
    return best_write / count, best_read / count, size // count


def cipher_seconds(size: int) -> float:
    """Return what one call of the bare cipher takes for ``size`` bytes."""
    cipher = XSalsa20(bytes(32), bytes(24))
    data = bytearray(size)
    count = max(1, 4_000_000 // max(size, 4000))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            cipher.apply(data)
        best = min(best, time.perf_counter() - started)
    return best / count


def main() -> None:
    """Measure and print."""
    node = (12345, bytes(32), 100)
    signature = bytes(64)
    small, large = bytes(100), bytes(65536)
    kinds: list[tuple[str, Callable[[Channel, int], None], int, int]] = [
        ("Request", lambda channel, index: channel.send_request(index, digest=5), 4000, 16),
        ("Have", lambda channel, index: channel.send_have(index), 4000, 16),
        ("Data, 100 bytes, no nodes", lambda channel, index: channel.send_data(index, small), 4000, 16),
        ("Data, 100 bytes, 2 nodes", lambda channel, index: channel.send_data(index, small, [node] * 2), 4000, 16),
        (
            "Data, 100 bytes, 17 nodes, signed",
            lambda channel, index: channel.send_data(index, small, [node] * 17, signature),
            2000,
            16,
        ),
        ("Data, 64 KiB, 2 nodes", lambda channel, index: channel.send_data(index, large, [node] * 2), 400, 4),
        ("Request, one at a time", lambda channel, index: channel.send_request(index, digest=5), 4000, 1),
        ("Data, 100 bytes, one at a time", lambda channel, index: channel.send_data(index, small, [node]), 4000, 1),
    ]
    print(f"{'message':<36}{'bytes':>8}{'write µs':>10}{'read µs':>10}{'cipher µs':>11}")
    for name, write, count, batch in kinds:
        writing, reading, size = measure(write, count, batch)
        cipher = cipher_seconds(size * batch) / batch
        print(f"{name:<36}{size:>8}{writing * 1e6:>10.1f}{reading * 1e6:>10.1f}{cipher * 1e6:>11.1f}")


if __name__ == "__main__":
    main()
