"""Hypertrie: an append-only key-value store in the blocks of a core, with every past version.

A trie knows keys and values, and nothing of drives; and it reads a core only through `hyperfs.core.reader.CoreReader`,
so it does not know where a block comes from.

A lookup starts at the newest node and follows sequence numbers. All walks are plain functions over nodes that are here;
where one is missing they say which (`MissingNodes`), and only then does anything wait.
"""

from hyperfs.trie.batch import Delete, DeleteTree, Operation, Put, encode_batch
from hyperfs.trie.cache import NodeCache
from hyperfs.trie.diff import Change
from hyperfs.trie.extension import HypertrieExtension
from hyperfs.trie.header import Header
from hyperfs.trie.node import Node
from hyperfs.trie.trie import Trie

__all__ = [
    "Change",
    "Delete",
    "DeleteTree",
    "Header",
    "HypertrieExtension",
    "Node",
    "NodeCache",
    "Operation",
    "Put",
    "Trie",
    "encode_batch",
]
