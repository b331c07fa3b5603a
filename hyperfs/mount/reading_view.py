"""A view of a drive of which nothing is staged, at a place where that may begin at any time."""

from hyperfs.drive import names
from hyperfs.mount.files import Handle
from hyperfs.mount.snapshot_view import SnapshotView
from hyperfs.mount.workspace_view import StagedHandle


class ReadingView(SnapshotView):
    """A `SnapshotView` whose handles a `WorkspaceView` goes on with: files that it was not told of."""

    def path_below(self, parent: int, name: str) -> str | None:
        """Return where the drive has ``name`` in a directory; None for a directory that is gone."""
        try:
            return names.join(self.inodes.path(parent).decode(), name)
        except KeyError:
            return None

    def open_now(self, number: int, *, writing: bool) -> Handle | None:
        handle = super().open_now(number, writing=writing)
        return None if handle is None else self._untold(handle)

    async def open(self, number: int, *, writing: bool, truncating: bool, keeps_set_id: bool) -> Handle:
        return self._untold(
            await super().open(number, writing=writing, truncating=truncating, keeps_set_id=keeps_set_id)
        )

    def _untold(self, handle: Handle) -> StagedHandle:
        return StagedHandle(handle.number, handle.file, handle.name, handle.content, version=self.snapshot)
