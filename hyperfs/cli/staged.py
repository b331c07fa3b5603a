"""What was written to mounts and is not in its drive yet, and what no mount could take up again.

The rule: it is looked for in the store itself, so that it is told whether a daemon runs or not.
"""

from typing import TYPE_CHECKING, Any

from hyperfs.cli.output import size_text

if TYPE_CHECKING:
    from hyperfs.daemon.places import Places


def staged_lines(places: "Places", key: bytes | None = None) -> list[str]:
    """Return what a person is told, of one drive or of all, with what to do about it."""
    lines = []
    for drive in places.staged(key):
        what = f"{size_text(drive.bytes)} of files" if drive.bytes else "names and attributes"
        then = (
            f"`hyperfs mount {drive.key} DIR` brings it into the drive"
            if drive.process is None
            else f"its mount, process {drive.process}, brings it into the drive"
        )
        lines.append(f"staged     {what} in drive {drive.key[:8]}, written to a mount and not in the drive yet: {then}")
    aside = (
        "what a mount could not take up again; why.txt in it says what is missing; delete it when you need it no more"
    )
    return lines + [f"set aside  {path}: {aside}" for path in places.set_aside(key)]


def staged_fields(places: "Places", key: bytes | None = None) -> dict[str, Any]:
    """Return the same for scripts."""
    drives = [{"key": drive.key, "bytes": drive.bytes, "process": drive.process} for drive in places.staged(key)]
    return {"staged": drives, "set_aside": list(places.set_aside(key))}
