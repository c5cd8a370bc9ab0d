"""Disks that are full, read-only or gone: which errors mean that, whichever library raises them, and what to do."""

import errno
import os
import re
import shutil
from pathlib import Path

# By number: what it is, what to do about it, and whether the same command may then succeed.
PROBLEMS = {
    errno.ENOSPC: ("no space left on device", "free some", True),
    errno.EDQUOT: ("disk quota exceeded", "free some", True),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n) or use fewer workers", True),
    errno.ENFILE: ("too many open files on this machine", "close some", True),
    errno.EFBIG: ("file too large", "raise the limit (ulimit -f) or take another file system", True),
    errno.EIO: ("input/output error", "check the disk", True),
    errno.ENODEV: ("no such device", "check that the disk is there", True),
    errno.ENXIO: ("no such device or address", "check that the disk is there", True),
    errno.ESTALE: ("stale file handle", "check that the disk is mounted", True),
    errno.EROFS: ("read-only file system", "name another place", False),
    errno.EACCES: ("permission denied", "change its permissions or name another place", False),
    errno.EPERM: ("operation not permitted", "change its permissions or name another place", False),
    errno.ENOTDIR: ("one of the folders in this path is a file", "name another place", False),
    errno.EISDIR: ("is a folder", "name a file", False),
    errno.ENAMETOOLONG: ("name too long", "name a shorter one", False),
    errno.ELOOP: ("symbolic links that lead in a circle", "name another place", False),
    errno.ENOENT: ("no such file or folder", "check the path", False),
    errno.EEXIST: ("a file of this name is in the way", "name another place", False),
}
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
OF_SQLITE = {
    8: errno.EROFS,
    10: errno.EIO,
    13: errno.ENOSPC,
    14: errno.EACCES,
}  # SQLITE_READONLY, IOERR, FULL, CANTOPEN
OF_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors and others
OF_NUMPY = re.compile(r"\d+ requested and \d+ written")  # ndarray.tofile keeps the reason to itself


def storage_error(error: BaseException, path: Path) -> OSError | None:
    """The operating system's error behind an exception that came while `path` was written, with a number and a file.

    None if it is not about storage.
    """
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if isinstance(error, OSError) and number is None and OF_NUMPY.search(str(error)):
        number = errno.ENOSPC
    elif (code := getattr(error, "sqlite_errorcode", None)) is not None:
        number = OF_SQLITE.get(code & 0xFF)
    elif not isinstance(error, OSError) and (found := OF_RUST.search(str(error))):
        number = int(found[1]) if PROBLEMS.get(int(found[1]), ("", "", False))[2] else None  # of writing, not reading
    if number not in PROBLEMS:
        return None
    named = _file_of(error) if isinstance(error, OSError) else None
    return OSError(number, os.strerror(number), str(named or path))


def describe(error: OSError, out: Path | None = None, *, goes_on: str = "") -> str | None:
    """One line about an error: which file, what, and what to do; None if the error is not about storage.

    out: what the command writes, named instead of a file in it when its disk is full. Where the error names no file
    and `out` has space, it is what was printed that could not be written.
    goes_on: added where the same command may succeed later.
    """
    if error.errno not in PROBLEMS:
        return None
    reason, advice, passes = PROBLEMS[error.errno]
    if error.filename is None and not passes:  # of something else than a file
        return None
    place = _file_of(error)
    if place is None:
        place = out if out and not (error.errno == errno.ENOSPC and _has_space(out)) else Path("standard output")
    elif out and error.errno in NO_SPACE and place.absolute().is_relative_to(out.absolute()):
        place = out
    again = f" and run the same command again{goes_on}" if passes else ""
    return f"{place}: {reason}; {advice}{again}"


def _file_of(error: OSError) -> Path | None:
    """Of two, the one that was written."""
    named = error.filename if error.filename2 is None else error.filename2
    return Path(os.fsdecode(named)) if isinstance(named, str | bytes | os.PathLike) else None


def _has_space(path: Path) -> bool:
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free > 1 << 16


def check_writable(file: Path) -> None:
    """Write and remove a neighbour of `file`, before work that takes long. Raises the OSError that it would end in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and not os.access(file, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
    absolute = Path(os.path.abspath(file))  # which has a name, as "." has not
    trial = absolute.parent / f".{absolute.name}.trial"
    try:
        with open(trial, "wb") as opened:
            opened.write(bytes(4096))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        trial.unlink(missing_ok=True)
