"""Whatever the owner of a trie makes its nodes hold."""

from tests.support.seeds import try_seeds


def test_no_trie_holds_anything_up() -> None:
    try_seeds("hostile_trie")
