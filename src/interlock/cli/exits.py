"""How a command ends: one table of exit codes, and from each error to its code."""

from enum import IntEnum

from interlock.errors import (
    ConfigError,
    ConflictError,
    DependencyError,
    InterlockError,
    NoAnswer,
    RequestError,
    UnknownTransaction,
)


class Exit(IntEnum):
    """The exit codes; scripts rely on them."""

    OK = 0
    FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    #: As sysexits.h has it: EX_CONFIG.
    CONFIG = 78


MEANING = {
    Exit.OK: "done",
    Exit.FAILED: "failed: a check found a fault, or something unexpected happened",
    Exit.INVALID: "the request or the message is invalid; the same again fails again",
    Exit.NOT_FOUND: "no such transaction, client or file of the store",
    Exit.CONFLICT: "what stands does not allow it",
    Exit.UNAVAILABLE: "the server or the store cannot be used now; try again",
    Exit.CONFIG: "a setting is wrong",
}

#: The first that fits decides, so the narrow ones come first.
_OF_ERROR: tuple[tuple[type[InterlockError], Exit], ...] = (
    (ConfigError, Exit.CONFIG),
    (UnknownTransaction, Exit.NOT_FOUND),
    (NoAnswer, Exit.NOT_FOUND),
    (RequestError, Exit.INVALID),
    (ConflictError, Exit.CONFLICT),
    (DependencyError, Exit.UNAVAILABLE),
)


def exit_of(error: InterlockError) -> Exit:
    """The exit code of a command that ended with this error."""
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), Exit.FAILED)


def epilog() -> str:
    """The table as it stands at the end of `--help`."""
    # `\b` keeps the lines as they are, where help texts are filled otherwise.
    lines = [f"  {code.value:>2}  {meaning}" for code, meaning in MEANING.items()]
    return "\b\nExit codes:\n" + "\n".join(lines)
