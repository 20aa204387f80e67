"""Files that are whole or not there."""

import contextlib
import os
import pathlib


@contextlib.contextmanager
def whole(path):
    """A path beside `path` to write to; it takes the place of `path` if all goes well, else it is removed."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
