"""When small files are fetched ahead, and that nothing is for who opens a few."""

from hyperfs.mount.siblings import FIRST_FILES, FIRST_READ, MOST_FILES, USED_FILES, WAITS_IN_VAIN, Siblings, Step


def read_far(siblings: Siblings, folder: str, count: int) -> list[Step | None]:
    """Read ``count`` files of a folder that are not here; return what was to be fetched ahead each time."""
    return [siblings.read(folder, here=False) for _ in range(count)]


NOT_YET = [None] * (FIRST_READ - 1)


def test_nothing_is_fetched_ahead_before_the_third_file() -> None:
    assert read_far(Siblings(), "a", FIRST_READ) == [*NOT_YET, Step(FIRST_FILES)]


def test_files_of_several_folders_do_not_add_up() -> None:
    siblings = Siblings()
    assert [siblings.read(folder, here=False) for folder in "abcabc"] == [None] * 6


def test_who_finds_what_he_reads_here_has_more_fetched_when_half_is_used_up() -> None:
    siblings = Siblings()
    read_far(siblings, "a", FIRST_READ)
    wanted = [siblings.read("a", here=True) for _ in range(FIRST_FILES // 2)]
    assert wanted == [*[None] * (FIRST_FILES // 2 - 1), Step(2 * FIRST_FILES)]


def test_who_reads_in_another_order_has_more_fetched_each_time_he_waits_up_to_a_bound() -> None:
    wanted = read_far(Siblings(), "a", 20)[FIRST_READ - 1 :]
    assert wanted[:3] == [Step(FIRST_FILES), Step(2 * FIRST_FILES), Step(4 * FIRST_FILES)]
    assert wanted[5] == Step(MOST_FILES)


def test_who_waits_although_as_much_as_possible_was_asked_for_asks_no_more_at_once() -> None:
    siblings = Siblings()
    while siblings.read("a", here=False) != Step(MOST_FILES):
        pass
    wanted = read_far(siblings, "a", WAITS_IN_VAIN)
    assert wanted == [*[None] * (WAITS_IN_VAIN - 1), Step(MOST_FILES)]


def test_what_is_here_is_no_reason_to_fetch() -> None:
    siblings = Siblings()
    assert [siblings.read("a", here=True) for _ in range(100)] == [None] * 100


def test_who_has_read_on_in_one_folder_does_so_in_the_next_whether_its_files_are_here_or_not() -> None:
    for here in (False, True):
        siblings = Siblings()
        read_far(siblings, "a", USED_FILES)
        assert siblings.read("b", here=here) == Step(MOST_FILES, reads_on=True)
        assert siblings.read("b", here=True) is None


def test_who_has_read_a_few_files_in_one_folder_has_to_show_it_again_in_the_next() -> None:
    siblings = Siblings()
    read_far(siblings, "a", FIRST_READ)
    assert read_far(siblings, "b", FIRST_READ) == [*NOT_YET, Step(FIRST_FILES)]


def test_only_so_many_folders_are_remembered() -> None:
    siblings = Siblings()
    read_far(siblings, "first", FIRST_READ - 1)
    for number in range(100):
        siblings.read(f"folder {number}", here=False)
    assert siblings.read("first", here=False) is None
