"""A drive that is served in one home is fetched in another, though no router lets anybody in."""

from pathlib import Path

from ..support.commands import hyperfs_in
from ..support.network import first_node, network
from ..support.patterns import pattern

NAME = "file"
SIZE = 300_000


def test_what_is_served_in_one_home_is_exported_in_another(tmp_path: Path) -> None:
    folder, copy = tmp_path / "folder", tmp_path / "copy"
    folder.mkdir()
    (folder / NAME).write_bytes(pattern(NAME, SIZE))
    with network() as switch, first_node(switch) as first:
        serving, fetching = switch.home().host(), switch.home().host()
        environment = {"HYPERFS_NO_DHT": "0", "HYPERFS_BOOTSTRAP": first}
        with (
            hyperfs_in(tmp_path, "serving", **environment) as server,
            hyperfs_in(tmp_path, "fetching", **environment) as reader,
        ):
            key = server("import", folder, wrapper=serving.wrapper).strip()
            server("serve", key, wrapper=serving.wrapper)
            reader("export", key, copy, wrapper=fetching.wrapper)
    assert (copy / NAME).read_bytes() == pattern(NAME, SIZE)
