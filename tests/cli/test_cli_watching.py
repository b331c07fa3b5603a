"""What `status --watch` shows of a drive and a peer."""

from dataclasses import replace

from hyperfs.cli.watching import Rates, drive_row, here_texts, peer_row
from hyperfs.daemon.answers import DriveAtWork, DriveShared, PeerTold

KEY = "5a" * 32
MIB = 1 << 20
DRIVE = DriveAtWork(
    key=KEY,
    name=None,
    pinned=False,
    version=7,
    blocks=100,
    blocks_here=25,
    content_bytes=8 * MIB,
    local_bytes=2 * MIB,
    waiting=1,
    in_flight=16,
    peers=2,
    sent_bytes=0,
)
PEER = PeerTold(
    name="192.0.2.7:3282",
    id=None,
    dialled=True,
    connected_seconds=5.0,
    cores=2,
    downloaded_bytes=0,
    uploaded_bytes=0,
    download_rate=1.5 * MIB,
    upload_rate=0.0,
    in_flight=12,
    round_trip_seconds=0.0314,
    has=(DriveShared(KEY, 99, 100),),
)


def test_it_is_said_why_a_pinned_drive_does_not_come() -> None:
    row = drive_row(replace(DRIVE, pinned=True, problem="there is no room"), down=0, up=0)
    assert row[3] == "there is no room"


def test_a_drive_is_shown_with_what_is_here_and_wanted() -> None:
    assert here_texts(DRIVE) == ("7", "2.0 MiB (25 %)", "8.0 MiB")
    assert drive_row(DRIVE, 3 * MIB, 0) == (
        KEY,
        "2.0 MiB (25 %)",
        "8.0 MiB",
        "16 blocks under way",
        "3.0 MiB/s",
        "0 B/s",
        "2",
    )


def test_a_drive_is_called_by_its_name_and_said_to_be_pinned() -> None:
    assert drive_row(replace(DRIVE, name="films", pinned=True), 0, 0)[0] == "films (pinned)"


def test_nothing_is_wanted_of_a_drive_that_nobody_waits_for() -> None:
    assert drive_row(replace(DRIVE, waiting=0, in_flight=0), 0, 0)[3] == ""


def test_rates_are_what_came_and_went_between_two_looks() -> None:
    rates = Rates()
    assert rates.of(DRIVE, 10.0) == (0, 0)
    later = replace(DRIVE, local_bytes=4 * MIB, sent_bytes=MIB)
    assert rates.of(later, 12.0) == (MIB, MIB // 2)


def test_what_is_cleared_and_peers_that_go_make_no_rate() -> None:
    rates = Rates()
    rates.of(replace(DRIVE, sent_bytes=MIB), 10.0)
    assert rates.of(replace(DRIVE, local_bytes=0), 11.0) == (0, 0)


def test_a_peer_is_shown_with_its_line_and_what_it_has() -> None:
    assert peer_row(PEER) == ("192.0.2.7:3282", "1.5 MiB/s", "0 B/s", "12", "31 ms", f"{KEY} 99 %")


def test_of_a_peer_that_has_not_answered_yet_no_round_trip_is_known() -> None:
    assert peer_row(replace(PEER, round_trip_seconds=None))[4] == ""
