"""What a user can mend, or a machine did not give, said in one line that fits on a screen."""

import reprlib
import resource
import stat
from enum import Enum, auto
from pathlib import Path

LONGEST_SHOWN = 100
GIGABYTE = 2**30
NO_FILE = "neither a file nor a folder, but a pipe, a socket or a device"

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


class InputError(ValueError):
    """A parameter or a file that cannot be used: what was seen, what is allowed, and where."""


class Kind(Enum):
    """What a path leads to."""

    FILE = auto()
    FOLDER = auto()
    NOTHING = auto()


def quote(value: object) -> str:
    """Show a value of unknown length in a message: as Python spells it, which any terminal can print, and cut.

    Examples
    --------
    >>> quote("colour")
    "'colour'"
    >>> len(quote("a" * 10_000))
    80
    """
    return _short.repr(value)


def shorten(text: object, longest: int = LONGEST_SHOWN) -> str:
    """Cut a text of unknown length, such as a path or the words of a library, in its middle: both ends tell more.

    Examples
    --------
    >>> shorten("data/own")
    'data/own'
    >>> shorten("0123456789", longest=5)
    '01…89'
    """
    shown = str(text)
    if len(shown) <= longest:
        return shown
    n_tail = (longest - 1) // 2
    return f"{shown[: longest - 1 - n_tail]}…{shown[len(shown) - n_tail :]}"


def require_several_classes(n_classes: int) -> None:
    """Stop where a training set teaches nothing to tell apart.

    Raises
    ------
    InputError
        If it has fewer than two classes.
    """
    if n_classes < 2:
        raise InputError(f"the training set has {n_classes} class, allowed are 2 or more: buy more labels")


def look_at(path: Path) -> Kind:
    """Say what a path leads to, before it is opened: a pipe would be waited on for good, a device read without end.

    Parameters
    ----------
    path : Path
        Links are followed.

    Returns
    -------
    Kind

    Raises
    ------
    InputError
        If it is a pipe, a socket or a device, or is in a folder that may not be looked into.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return Kind.NOTHING
    except OSError as error:
        raise InputError(f"{shorten(path)} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{quote(str(path))} is no path ({error})") from error
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    if not stat.S_ISREG(mode):
        raise InputError(f"{shorten(path)} is {NO_FILE}")
    return Kind.FILE


def explain(error: BaseException) -> str | None:
    """Say in one line what a user can mend or a machine did not give.

    Parameters
    ----------
    error : BaseException

    Returns
    -------
    str or None
        None for any other error, of which a programmer needs the traceback.
    """
    if isinstance(error, InputError):
        # Whoever wrote it has cut what could be long.
        return str(error)
    said = " ".join(str(error).split())
    if isinstance(error, OSError):
        return shorten(said, 1000)
    # The loader of libraries, Python's threads, and TensorFlow have each their own word for it.
    is_short = (
        isinstance(error, MemoryError)
        or "failed to map segment" in said
        or "can't start new thread" in said
        or type(error).__name__ == "ResourceExhaustedError"
    )
    return f"out of memory or threads{f': {shorten(said)}' if said else ''}" if is_short else None


def require_memory(least: float, user: str) -> None:
    """Refuse a limit on memory, as by ``ulimit -v``, under which native code crashes or hangs in place of raising.

    Parameters
    ----------
    least : float
        GB of addresses, without any data.
    user : str
        Who needs them.

    Raises
    ------
    InputError
        If the process may use less.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < least * GIGABYTE:
        raise InputError(f"memory is limited to {limit / GIGABYTE:.2f} GB (ulimit -v), {user} needs {least} GB or more")
