"""Inode numbers stay the same, and a record lives as long as the kernel knows it."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from hyperfs.mount.inodes import MAX_PLACES, NO_CONTENT, PLACE_BITS, ROOT, InodeTable

FILE = 0o10
KEY = bytes(range(32))


class Crowded(InodeTable):
    """Every path has the same number by its hash, so that all but one must step aside."""

    def _hash(self, parent: int, name: bytes) -> int:
        return 7


def test_a_number_is_the_same_after_forgetting() -> None:
    table = InodeTable(KEY)
    first = table.remember(ROOT, b"a", FILE)
    table.forget(first, 1)
    assert table.remember(ROOT, b"a", FILE) == first


def test_a_number_depends_on_the_drive() -> None:
    number = InodeTable(KEY).remember(ROOT, b"a", FILE)
    assert InodeTable(KEY[::-1]).remember(ROOT, b"a", FILE) != number


def test_a_number_does_not_depend_on_what_was_looked_up_before() -> None:
    table = InodeTable(KEY)
    table.remember(ROOT, b"b", FILE)
    assert table.remember(ROOT, b"a", FILE) == InodeTable(KEY).remember(ROOT, b"a", FILE)


def test_an_inode_is_dropped_with_its_last_lookup() -> None:
    table = InodeTable(KEY)
    number = table.remember(ROOT, b"a", FILE)
    table.remember(ROOT, b"a", FILE)
    table.forget(number, 1)
    assert table[number].lookups == 1
    table.forget(number, 1)
    assert number not in table


def test_the_root_is_never_forgotten() -> None:
    table = InodeTable(KEY)
    table.forget(ROOT, 1000)
    assert table.path(ROOT) == b""


def test_a_path_is_put_together_from_its_parents() -> None:
    table = InodeTable(KEY)
    number, path = ROOT, b""
    for level in range(60):
        name = b"%d" % level
        path = path + b"/" + name if path else name
        number = table.remember(number, name, 4)
    assert table.path(number) == path
    assert table.find_path(path) == number


def test_what_the_kernel_does_not_know_is_not_found() -> None:
    assert InodeTable(KEY).find_path(b"a/b") is None


def test_paths_of_one_hash_get_numbers_of_their_own() -> None:
    table = Crowded(KEY)
    numbers = [table.remember(ROOT, name, FILE) for name in (b"a", b"b", b"c")]
    assert len(set(numbers)) == 3
    assert [table.find(ROOT, name) for name in (b"a", b"b", b"c")] == numbers


def test_a_stepped_number_is_kept_when_the_one_before_it_goes() -> None:
    table = Crowded(KEY)
    first, second = (table.remember(ROOT, name, FILE) for name in (b"a", b"b"))
    table.forget(first, 1)
    assert table.remember(ROOT, b"b", FILE) == second


def test_content_is_noted_and_goes_with_the_inode() -> None:
    table = InodeTable(KEY)
    number = table.remember(ROOT, b"a", FILE)
    table.set_content(number, 99)
    assert table[number].content == 99
    table.forget(number, 1)
    table.remember(ROOT, b"a", FILE)
    assert table[number].content == NO_CONTENT


def test_everything_below_an_inode_is_found() -> None:
    table = InodeTable(KEY)
    a = table.remember(ROOT, b"a", 4)
    b = table.remember(a, b"b", 4)
    c = table.remember(b, b"c", FILE)
    other = table.remember(ROOT, b"other", FILE)
    assert below(table, a) == sorted([b, c])
    assert below(table, ROOT) == sorted([a, b, c, other])
    assert below(table, c) == []
    assert below(table, b, other) == [c]


def below(table: InodeTable, *numbers: int) -> list[int]:
    return sorted(number for found in table.below(numbers) for number in found)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.booleans()), max_size=40))
def test_numbers_are_a_bijection_whatever_is_remembered_and_forgotten(steps: list[tuple[bytes, bool]]) -> None:
    table = Crowded(KEY)
    known: dict[bytes, tuple[int, int]] = {}
    for name, remember in steps:
        if remember:
            number = table.remember(ROOT, name, FILE)
            expected, lookups = known.get(name, (number, 0))
            assert number == expected
            known[name] = (number, lookups + 1)
        elif name in known:
            number, lookups = known.pop(name)
            table.forget(number, lookups)
        assert len({number for number, _ in known.values()}) == len(known) == len(table) - 1


def test_an_inode_takes_less_than_250_bytes() -> None:
    table = InodeTable(KEY)
    for index in range(2000):
        name = b"some-file-%06d.txt" % index
        table.remember(ROOT, name, FILE)
    records = table._records
    used = sys.getsizeof(records) + sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in records.items())
    assert used / len(records) < 250


def test_the_tables_of_several_places_share_no_number() -> None:
    tables = [InodeTable(KEY, place=place) for place in (0, 1, MAX_PLACES - 1)]
    numbers = [{table.root, *(table.remember(table.root, b"%d" % i, FILE) for i in range(50))} for table in tables]
    assert len(set().union(*numbers)) == sum(map(len, numbers))
    assert [{number >> PLACE_BITS for number in found} for found in numbers] == [{0}, {1}, {MAX_PLACES - 1}]


def test_the_root_of_an_inner_drive_is_known_as_long_as_it_was_looked_up_and_stays() -> None:
    table = InodeTable(KEY, place=3)
    assert table[table.root].lookups == 0
    table.remember(table.root, b"a", FILE)
    table.forget(table.root, 1)
    assert table.path(table.root) == b""
