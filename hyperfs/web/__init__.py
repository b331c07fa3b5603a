"""``hyperfs web``: the drives of a store in a browser.

The rule: what a drive holds is hostile. Each drive, and each version of it, is an origin of its own, and what may be
done there is to read that drive; the list of drives is another origin, to which no script of a drive has the key.
"""
