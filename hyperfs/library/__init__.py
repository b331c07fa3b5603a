"""hyperfs for programs: one core, opened in this process, with everything that its peers and its owner can do.

The rule: nothing here hashes, stores or speaks the wire; it joins `hyperfs.core` and `hyperfs.replication` into what a
program holds. Drives are opened by `hyperfs.drive.library`. See docs/library.md.
"""
