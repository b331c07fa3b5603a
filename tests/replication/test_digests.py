from hyperfs.core.proofs import request_digest
from hyperfs.replication.digests import MAX_REMEMBERED, Remembered


def test_what_a_digest_said_is_left_out_later() -> None:
    remembered = Remembered()
    assert remembered.merge(0, 0b10001, 8) == 0b10001
    assert remembered.merge(1, 0, 8) == request_digest(1, 8, {7}.__contains__)[0]


def test_a_digest_that_says_all_is_passed_on() -> None:
    remembered = Remembered()
    assert remembered.merge(3, 1, 8) == 1


def test_memory_is_bounded() -> None:
    remembered = Remembered()
    for index in range(0, 4 * MAX_REMEMBERED, 2):
        remembered.merge(index, 0b10, 8 * MAX_REMEMBERED)
    assert len(remembered._nodes) <= MAX_REMEMBERED
