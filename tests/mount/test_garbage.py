"""Looking for garbage leaves out what has outlived one look, and all is looked at once in a while."""

import gc
import weakref

from hyperfs.mount.garbage import ALL_SECONDS, collecting_little


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_outlived_a_look_is_not_looked_at_again() -> None:
    with collecting_little():
        many = [[] for _ in range(10_000)]  # type: ignore[var-annotated]
        gc.collect()
        assert len(gc.get_objects()) < len(many)
        assert gc.get_freeze_count() >= len(many)


def test_what_is_new_is_collected() -> None:
    with collecting_little():
        cycle = Cycle()
        gone = weakref.ref(cycle)
        del cycle
        gc.collect()
        assert gone() is None


def test_what_was_left_out_is_collected_once_in_a_while() -> None:
    now = 0.0
    with collecting_little(lambda: now):
        cycle = Cycle()
        gone = weakref.ref(cycle)
        gc.collect()
        del cycle
        gc.collect()
        assert gone() is not None
        now = ALL_SECONDS
        gc.collect()
        assert gone() is None


def test_it_ends() -> None:
    before = gc.get_threshold(), len(gc.callbacks)
    with collecting_little():
        pass
    assert (gc.get_threshold(), len(gc.callbacks)) == before
    assert gc.get_freeze_count() == 0
