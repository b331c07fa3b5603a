"""Names of drives, as in ``dat://example.com``: what key stands behind one; docs/formats.md, "Names"."""
