"""Secret keys that lie in a folder that is imported."""

from pathlib import Path

import pytest

from hyperfs.crypto import key_pair
from hyperfs.drive.import_plan import plan_import
from hyperfs.drive.importer import run_import
from hyperfs.drive.keyfile import Cost, DriveKeys, encode_keys, seal_keys
from tests.support.drives import new_drive
from tests.support.imports import bring, contents


class TestSecrets:
    """Whoever reads the drive could write to the drives that they belong to."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        folder = tmp_path / "source"
        (folder / "store/.hyperfs").mkdir(parents=True)
        (folder / "store/ab/cd/core").mkdir(parents=True)
        (folder / "copied/ab/cd/core").mkdir(parents=True)
        (folder / "copied/master_key").write_bytes(bytes(32))
        pair = key_pair(b"s" * 32)
        keys = DriveKeys(pair.secret, key_pair(b"c" * 32).secret, 1, 0)
        for name, content in {
            "store/ab/cd/core/secret_key": pair.secret,
            "copied/ab/cd/core/secret_key": pair.secret,
            "alone": pair.secret,
            "drive.hyperfs-key": encode_keys(keys),
            "sealed.hyperfs-key": seal_keys(keys, "passphrase", cost=Cost(1, 8192)),
            "of-64-bytes": b"0123456789abcdef" * 4,
            "about-keys": b"hyperfs-secret-key files hold keys",
        }.items():
            (folder / name).write_bytes(content)
        return folder

    async def test_they_are_left_out_with_a_line_each(self, source: Path) -> None:
        own = await new_drive()
        result = await bring(own, source)
        assert sorted(await contents(own)) == ["about-keys", "of-64-bytes", "sealed.hyperfs-key"]
        assert {one.path: one.reason for one in result.skipped} == {
            "alone": "it is a secret key",
            "copied": "it is a store of drives, or a copy of one, and holds secret keys",
            "drive.hyperfs-key": "it is a file of secret keys that is not sealed",
            "store": "it is a store of drives, or a copy of one, and holds secret keys",
        }

    async def test_a_plan_can_tell_before(self, source: Path) -> None:
        own = await new_drive()
        plan = (await plan_import(own.drive.snapshot(), source)).without_secrets()
        assert sorted(one.path for one in plan.skipped) == ["alone", "copied", "drive.hyperfs-key", "store"]
        assert sorted(found.path for found in plan.files) == ["about-keys", "of-64-bytes", "sealed.hyperfs-key"]

    async def test_a_store_itself_is_left_out(self, source: Path) -> None:
        own = await new_drive()
        result = await bring(own, source / "store")
        assert (await contents(own), [one.path for one in result.skipped]) == ({}, [""])

    async def test_nothing_of_a_store_is_deleted_from_a_drive_that_has_it(self, source: Path) -> None:
        own = await new_drive()
        await own.writer.put_file("store/kept", b"x")
        await bring(own, source, delete=True)
        assert "store/kept" in await contents(own)

    async def test_they_are_taken_when_that_is_said(self, source: Path) -> None:
        own = await new_drive()
        plan = await plan_import(own.drive.snapshot(), source, with_secrets=True)
        result = await run_import(plan, own.committer)
        assert (result.files, result.skipped) == (8, ())
