"""Whole published methods as passes, put together from the pieces of the other rooms; a file per method."""
