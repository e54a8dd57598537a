"""Floor 2: what one process writes and another reads.

Model folder, routes file, log segment, online table. The reading side needs numpy and msgspec
only; `convert` loads the training libraries, inside the functions that use them.
"""
