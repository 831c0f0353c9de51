"""A file that cannot be imported."""

raise RuntimeError("not today")
