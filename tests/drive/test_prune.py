"""What a drive can do without."""

import pytest

from hyperfs.drive.prune import Keep, PrunePlan, plan_prune
from hyperfs.drive.stat import Stat, encode_stat
from hyperfs.errors import UsageError
from hyperfs.trie import Put

from ..support.drives import OwnDrive, new_drive

DAY = 86_400_000


class Clock:
    """A time that a test sets, in milliseconds."""

    def __init__(self) -> None:
        self.now = 1_600_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def own(clock: Clock) -> OwnDrive:
    return await new_drive(clock=clock)


async def prune(own: OwnDrive, *keep: str, clock: Clock | None = None, also: tuple[int, ...] = ()) -> PrunePlan:
    now = clock.now if clock else 0
    return await plan_prune(own.drive.snapshot(), Keep.parse(keep), now=now, also=also)


def cleared(plan: PrunePlan) -> set[int]:
    return {block for blocks in plan.cleared for block in blocks}


async def written(own: OwnDrive, path: str, content: bytes) -> int:
    """Write a file of one block and return the block."""
    return (await own.writer.put_file(path, content)).offset


async def test_who_waits_hears_how_many_entries_were_looked_at(own: OwnDrive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperfs.drive.prune.TOLD_EVERY", 2)
    for name in "abcd":
        await written(own, name, b"x")
    told: list[int] = []
    await plan_prune(own.drive.snapshot(), Keep(), now=0, on_progress=told.append)
    assert told[:2] == [2, 4]


async def test_what_the_newest_version_shows_is_kept(own: OwnDrive) -> None:
    await written(own, "a", b"a")
    await written(own, "b", b"b")
    plan = await prune(own, "1")
    assert (cleared(plan), plan.files, plan.lost_versions) == (set(), 0, 2)


async def test_what_was_overwritten_and_deleted_goes(own: OwnDrive) -> None:
    old = await written(own, "a", b"old")
    gone = await written(own, "b", b"gone!")
    await written(own, "a", b"new")
    await own.writer.delete("b")
    plan = await prune(own, "1")
    assert (cleared(plan), plan.files, plan.byte_count) == ({old, gone}, 2, 8)


async def test_the_newest_versions_are_kept_with_all_they_show(own: OwnDrive) -> None:
    first = await written(own, "a", b"1")
    await written(own, "a", b"2")
    await written(own, "a", b"3")
    await written(own, "other", b"x")
    plan = await prune(own, "3")
    assert (cleared(plan), plan.kept) == ({first}, (range(3, 6),))


async def test_tagged_versions_are_kept(own: OwnDrive) -> None:
    first = await written(own, "a", b"1")
    second = await written(own, "a", b"2")
    await own.writer.tag("v1", 2)
    await written(own, "a", b"3")
    assert cleared(await prune(own, "tags")) == {second}
    assert cleared(await prune(own, "1")) == {first, second}


async def test_versions_that_are_in_use_are_kept(own: OwnDrive) -> None:
    await written(own, "a", b"1")
    second = await written(own, "a", b"2")
    await written(own, "a", b"3")
    assert cleared(await prune(own, "1", also=(2,))) == {second}


async def test_what_was_shown_at_any_time_since_is_kept(own: OwnDrive, clock: Clock) -> None:
    first = await written(own, "a", b"1")
    clock.now += 10 * DAY
    await written(own, "a", b"2")
    clock.now += 40 * DAY
    await written(own, "a", b"3")
    assert cleared(await prune(own, "30d", clock=clock)) == {first}


async def test_a_deletion_of_today_does_not_make_what_it_deleted_old(own: OwnDrive, clock: Clock) -> None:
    await written(own, "a", b"1")
    clock.now += 40 * DAY
    await own.writer.delete("a")
    assert cleared(await prune(own, "30d", clock=clock)) == set()


async def test_a_move_of_today_does_not_make_what_was_there_old(own: OwnDrive, clock: Clock) -> None:
    for name in "abc":
        await written(own, f"d/{name}", name.encode())
    clock.now += 40 * DAY
    await own.writer.rename("d", "e")
    await own.writer.delete_tree("e")
    assert cleared(await prune(own, "30d", clock=clock)) == set()


async def test_content_that_was_moved_is_kept(own: OwnDrive) -> None:
    await written(own, "a", b"1")
    await own.writer.rename("a", "b")
    assert cleared(await prune(own, "1")) == set()


async def test_content_that_no_version_names_yet_is_left_alone(own: OwnDrive) -> None:
    old = await written(own, "a", b"1")
    async with own.committer.content() as lease:
        await lease.append([b"about to be named"])
    await written(own, "a", b"2")
    assert cleared(await prune(own, "1")) == {old}


async def test_what_is_not_here_is_not_counted(own: OwnDrive) -> None:
    old = await written(own, "a", b"1")
    await written(own, "a", b"2")
    own.content.take_away(old)
    plan = await prune(own, "1")
    assert (plan.cleared, plan.files, plan.byte_count) == ((), 0, 0)


async def test_of_a_copy_everything_goes_that_no_kept_version_shows(own: OwnDrive) -> None:
    old = await written(own, "a", b"1")
    async with own.committer.content() as lease:
        orphan = (await lease.append([b"never named"])).blocks.start
    await written(own, "a", b"2")
    own.metadata.writable = False
    plan = await prune(own, "1")
    assert (cleared(plan), plan.files) == ({old, orphan}, None)


async def test_a_file_that_claims_blocks_past_the_end_does_no_harm(own: OwnDrive) -> None:
    old = await written(own, "a", b"1")
    await written(own, "a", b"2")
    await own.commit(Put("liar", encode_stat(Stat(0o100644, size=9, blocks=2**60, offset=2**40))))
    assert cleared(await prune(own, "1")) == {old}


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "30m", "tag", "1.5d"])
def test_what_does_not_say_what_to_keep_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="does not say what to keep"):
        Keep.parse([text])


def test_what_to_keep_can_be_combined() -> None:
    assert Keep.parse(["10", "30d", "12h", "tags"]) == Keep(10, 30 * 86_400, tags=True)
