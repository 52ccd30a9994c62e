"""Whether a file can be appended to, found out without writing to it or making it."""

import errno
import os
from pathlib import Path

PASSING = (errno.EDQUOT, errno.ENOSPC, errno.EROFS)
"""What is no mistake of whoever named the file, and may be over by the time it is written to."""


def check_appendable(file: str) -> None:
    """Raise OSError where nothing could be appended: to a directory, without the right, to a pipe that nobody reads."""
    path = Path(file)
    if not path.exists():
        _check_folder(next(each for each in path.parents if each.exists()))
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as problem:
        if problem.errno not in PASSING:
            raise


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
