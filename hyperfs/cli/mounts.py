"""``mount`` and ``umount``."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from hyperfs.cli import completion
from hyperfs.cli.command import CommonOption, NameOrNumber, command
from hyperfs.cli.common import (
    FINDING_PEERS,
    Common,
    common_options,
    examples,
    run_with_daemon,
    run_with_running_daemon,
)
from hyperfs.cli.kinds import VERSIONED_DRIVE
from hyperfs.cli.output import print_json, tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container

    from hyperfs.daemon.answers import MountTold
    from hyperfs.daemon.client import DaemonClient
    from hyperfs.daemon.places import Places
    from hyperfs.keys import DriveAddress

Result = TypeVar("Result")

_BAR_SECONDS: Final = 0.2
_LARGEST_ID: Final = 0xFFFF_FFFE
_LOOK_SECONDS: Final = 0.02
_ATTACH_SECONDS: Final = 60.0
"""How long the process of a mount may take to find a new daemon, before it is taken for one that hangs."""


class _MountPoint(click.Path):
    """A folder, which is not looked at: what is mounted there may not answer."""

    def convert(self, value: "str | os.PathLike[str]", param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return Path(value)


class Id(NameOrNumber):
    """A user or a group, by number or by name."""

    def __init__(self, kind: Literal["user", "group"]) -> None:
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        import grp
        import pwd

        if isinstance(value, int) or value.isdecimal():
            number = int(value)
        else:
            try:
                number = pwd.getpwnam(value).pw_uid if self.name == "user" else grp.getgrnam(value).gr_gid
            except KeyError:
                self.fail(f"{value!r} is no {self.name} of this machine, and no number", param, ctx)
        if not 0 <= number <= _LARGEST_ID:
            self.fail(f"{value!r} is not between 0 and {_LARGEST_ID}", param, ctx)
        return number


class _Octal(click.ParamType[int]):
    name = "mask"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            mask = value if isinstance(value, int) else int(value, 8)
        except ValueError:
            self.fail(f"{value!r} is not an octal number such as 022", param, ctx)
        if not 0 <= mask <= 0o777:
            self.fail(f"{value!r} is not between 0 and 777", param, ctx)
        return mask


@command(
    epilog=examples(
        "hyperfs mount KEY /mnt/photos",
        "hyperfs mount KEY /mnt/photos --peer host:3282    with a peer to connect to",
        "hyperfs mount KEY+12 /mnt/old                     as it was at version 12",
        "hyperfs mount KEY /mnt/photos --foreground        stay; ^C unmounts",
        "sudo hyperfs mount KEY /srv/photos --allow-other --uid 33 --umask 022",
    )
)
@click.option("-f", "--foreground", is_flag=True, help="Stay until it is unmounted.")
@click.option("--uid", metavar="USER", type=Id("user"), help="Show everything as this user's.")
@click.option("--gid", metavar="GROUP", type=Id("group"), help="Show everything as this group's.")
@click.option("--umask", metavar="OCTAL", type=_Octal(), help="Show the permissions 0777 less these bits.")
@click.option("--allow-other", is_flag=True, help="Let other users in (needs user_allow_other in /etc/fuse.conf).")
@click.option(
    "--links",
    type=click.Choice(["confined", "as-stored"]),
    default="confined",
    show_default=True,
    help="Keep the symbolic links of others' drives from leading out of the drive, or show them as they are stored.",
)
@click.option(
    "--no-announce",
    cls=CommonOption,
    heading=FINDING_PEERS,
    is_flag=True,
    help="Do not let others find it here; its peers are looked for all the same.",
)
@click.option("--read-only", is_flag=True, help="Refrain from writing, also where the secret key is here.")
@click.option(
    "--flush-interval",
    metavar="SECONDS",
    type=click.FloatRange(0.05, 86_400),
    default=5.0,
    show_default=True,
    help="Commit what was written at least so often.",
)
@common_options()
@click.argument("address", metavar="KEY[+VERSION]", type=VERSIONED_DRIVE)
@click.argument("mountpoint", metavar="DIR", type=_MountPoint(file_okay=False))
def mount(
    common: Common,
    address: "DriveAddress",
    mountpoint: Path,
    foreground: bool,
    uid: int | None,
    gid: int | None,
    umask: int | None,
    allow_other: bool,
    links: str,
    no_announce: bool,
    read_only: bool,
    flush_interval: float,
) -> None:
    """Show a drive as a folder at DIR, an empty directory. Returns when the folder is ready.

    Who has the drive is found by its key; it is announced here, too, while it is mounted, unless --no-announce. Without
    a version the folder follows the newest one. Only what is read is fetched. The mount comes back when the daemon is
    started again, until `hyperfs umount`. Reading something that no peer has fails after --timeout.

    A drive whose secret key is in this store can be written to, at its newest version and in one mount at a time. What
    is written is seen in the folder at once; it becomes a version of the drive soon after the last file was closed, and
    every --flush-interval seconds in any case.
    """
    from hyperfs.daemon.places import places_of, refuse_overlap
    from hyperfs.daemon.state import MountChoices
    from hyperfs.mount.mountpoint import prepare

    path = Path(os.path.abspath(mountpoint))
    real = Path(os.path.realpath(path.parent), path.name)
    places = places_of(common.store)
    refuse_overlap(real, places.store)
    if not _is_ours(common, places, str(real)):
        real = Path(prepare(str(path)))
        refuse_overlap(real, places.store)
    options = MountChoices(
        uid=uid,
        gid=gid,
        umask=umask,
        allow_other=allow_other,
        confines_links=links == "confined",
        timeout_seconds=common.timeout_seconds,
        lookup_timeout_seconds=min(5.0, common.timeout_seconds),
        read_only=read_only,
        announces=not no_announce,
        flush_seconds=flush_interval,
    )

    async def run(client: "DaemonClient") -> None:
        from hyperfs.cli.drives import is_whole, open_drive, tell_if_alone

        drive = await open_drive(client, common, address)
        if not await is_whole(drive):
            await tell_if_alone(client, drive, "what is not here cannot be read before one is")
        whole = replace(address, path="")

        async def begin() -> str:
            mount_id = await client.mount(
                drive.key,
                version=drive.pinned_version,
                label=str(whole),
                mountpoint=real,
                options=options,
                peers=common.peers,
            )
            if common.json:
                print_json(
                    {"key": drive.key.hex(), "version": drive.version, "live": drive.live, "mountpoint": str(real)}
                )
            else:
                tell(f"{whole} is mounted at {real}")
                if address.path:
                    tell(f"all of it: what you named is {real / address.path}")
            return mount_id

        await (_mount_and_stay(client, begin, str(real)) if foreground else begin())

    run_with_daemon(common, run)


@command(epilog=examples("hyperfs umount /mnt/photos", "hyperfs umount --lazy /mnt/photos   even while in use"))
@click.option(
    "-z", "--lazy", is_flag=True, help="Take it away even while somebody is in it; what is open there fails then."
)
@common_options(json=False, network=False)
@click.argument(
    "mountpoint",
    metavar="DIR",
    type=_MountPoint(file_okay=False),
    shell_complete=completion.folders_beginning,
)
def umount(common: Common, mountpoint: Path, lazy: bool) -> None:
    """Take a mounted folder away, now and for the next start. Refuses while somebody is in it, unless --lazy.

    Returns once what was written to it is in the drive, which may take as long as copying it, and with status 1 when
    that could not be: it is kept then, and comes into the drive once that is mounted again.
    """
    import trio

    from hyperfs.daemon.places import Places
    from hyperfs.daemon.process import store_of_mount
    from hyperfs.errors import UsageError
    from hyperfs.mount.mountpoint import take_away_dead, unmount

    path = os.path.abspath(mountpoint)
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    served_from = store_of_mount(path)
    common = replace(common, store=served_from or common.store)
    places = Places(common.store.expanduser().resolve())

    def refuse_unknown() -> None:
        if not take_away_dead(path):
            store = f"no drive of the store {places.store}" if places.is_there() else "no drive"
            raise UsageError(f"{path}: {store} is mounted there; `hyperfs status` shows what is")

    async def run(client: "DaemonClient") -> None:
        mount = await _attached(client, path)
        if mount is None:
            await trio.to_thread.run_sync(refuse_unknown)
            return
        if served_from is None:  # else it is asked nothing: its process may live and not answer
            await trio.to_thread.run_sync(take_away_dead, path)
        if not lazy:
            await trio.to_thread.run_sync(unmount, path, bytes.fromhex(mount.key))
        try:
            await with_commit_bar(client, lambda: client.unmount(mount.id), ids={mount.id})
        except UsageError:
            if any(other.id == mount.id for other in await client.mounts()):
                raise  # otherwise the folder is away, and its process was quicker to say so than we
        finally:
            await trio.to_thread.run_sync(take_away_dead, path)

    if served_from is not None or _is_remembered(places, path):
        run_with_daemon(common, run)
    else:
        refuse_unknown()


async def with_commit_bar(
    client: "DaemonClient", work: "Callable[[], Awaitable[Result]]", *, ids: "Container[str] | None" = None
) -> "Result":
    """Wait for ``work``, which ends mounts (these, or all); show on a terminal how far they are with committing."""
    import trio

    from hyperfs.cli.progress import commit_progress
    from hyperfs.drive.nursery import open_work

    with commit_progress("committing what was written") as told:
        if told is None:
            return await work()
        async with open_work() as nursery:

            async def watch() -> None:
                while True:
                    shown = [mount.committing for mount in await client.mounts() if ids is None or mount.id in ids]
                    under_way = [one for one in shown if one is not None]
                    told(sum(one.done_bytes for one in under_way), sum(one.total_bytes for one in under_way))
                    await trio.sleep(_BAR_SECONDS)

            nursery.start_soon(watch)
            result = await work()
            nursery.cancel_scope.cancel()
        return result


def _is_ours(common: Common, places: "Places", path: str) -> bool:
    """Tell whether this store's daemon mounted something at ``path``, or the next one is to, as after it died.

    Then it is for the daemon to say whether that is what is to be mounted there.
    """
    from hyperfs.daemon.process import store_of_mount
    from hyperfs.mount.mountpoint import is_drive_at

    if not is_drive_at(path) or store_of_mount(path) != places.store:
        return False

    async def run(client: "DaemonClient") -> bool:
        return any(mount.mountpoint == path for mount in await client.mounts())

    is_mounted = run_with_running_daemon(common, run)
    return _is_remembered(places, path) if is_mounted is None else is_mounted


def _is_remembered(places: "Places", path: str) -> bool:
    """Tell whether the next daemon of the store is to mount something at ``path``."""
    from hyperfs.daemon.state import read_state

    return any(record.mountpoint == path for record in read_state(places.state).mounts)


async def _attached(client: "DaemonClient", path: str) -> "MountTold | None":
    """Return the mount at ``path``, once its process has found this daemon if it lived through the one before.

    Unmounted earlier, it would have nobody to commit to.
    """
    import trio

    from hyperfs.mount.mountpoint import is_drive_at

    with trio.move_on_after(_ATTACH_SECONDS):
        while True:
            mount = next((mount for mount in await client.mounts() if mount.mountpoint == path), None)
            if mount is None or mount.state != "starting" or not is_drive_at(path):
                return mount
            await trio.sleep(_LOOK_SECONDS)
    return mount


async def _mount_and_stay(client: "DaemonClient", begin: "Callable[[], Awaitable[str]]", path: str) -> None:
    """Mount, and return once the mount is gone; end it when this command is told to end."""
    import signal
    from contextlib import suppress

    import trio

    from hyperfs.errors import UsageError

    before = {mount.id for mount in await client.mounts()}
    mount_id: str | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def give_up_at_signal() -> None:
                await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(give_up_at_signal)
            mount_id = await begin()
            await client.wait_unmounted(mount_id)
            nursery.cancel_scope.cancel()
            return
        if mount_id is not None:
            await client.unmount(mount_id)
            return
        # Told to end while the daemon was mounting: it takes that back by itself, unless it was just done.
        for mount in await client.mounts():
            if mount.mountpoint == path and mount.id not in before:
                with suppress(UsageError):
                    await client.unmount(mount.id)
                await client.wait_unmounted(mount.id)
