"""What can go wrong, one class for each thing the caller can do differently.

A message names the subject, what was found, what was expected and the next step. Errors know
nothing of HTTP: each face maps `code` to its own statuses.
"""

from typing import ClassVar


class MainspringError(Exception):
    """Root of all errors a caller may see."""

    code: ClassVar[str] = "internal"


class InvalidInput(MainspringError):
    """The request is wrong as it stands: correct it."""

    code = "invalid_input"


class InvalidDeclaration(MainspringError):
    """The project file declares something that cannot be: correct the file."""

    code = "invalid_declaration"


class NotFound(MainspringError):
    """The named thing does not exist: check the name."""

    code = "not_found"


class AlreadyExists(MainspringError):
    """The name is taken: choose another or use what is there."""

    code = "already_exists"


class StaleSubject(MainspringError):
    """The subject moved since it was read: read it again and decide anew."""

    code = "stale_subject"


class StaleToken(MainspringError):
    """The lease behind this report is over, its successor has begun: stop."""

    code = "stale_token"


class Leased(MainspringError):
    """Somebody else holds the lease: wait until it ends."""

    code = "leased"


class NotPermitted(MainspringError):
    """The actor's role does not allow this: ask an admin for the role."""

    code = "not_permitted"


class NotAuthenticated(MainspringError):
    """No or an unknown token: give one."""

    code = "not_authenticated"


class Refused(MainspringError):
    """The request is well formed but the state forbids it; the message says what comes first."""

    code = "refused"


class ChecksFailed(MainspringError):
    """A commit's table-level checks failed: the findings say which; correct the data."""

    code = "checks_failed"


class SchemaMismatch(MainspringError):
    """Columns or types are not those declared: correct the rows or the declaration."""

    code = "schema_mismatch"


class LeakFound(MainspringError):
    """A training row would see what had not arrived: correct the feature's source or times."""

    code = "leak_found"


class NotReproducible(MainspringError):
    """A step names a value that has no canonical encoding: pass it as a parameter."""

    code = "not_reproducible"


class StepFailed(MainspringError):
    """A pipeline step raised: the run's log holds the trace."""

    code = "step_failed"


class Unconvertible(MainspringError):
    """The model does not convert, or its converted form disagrees: the rows are named."""

    code = "unconvertible"


class Corrupt(MainspringError):
    """Stored bytes do not have the digest or shape they must have: restore them from a backup."""

    code = "corrupt"


class StorageFull(MainspringError):
    """The disk refused the write: nothing was changed; free space and repeat."""

    code = "storage_full"


class Unavailable(MainspringError):
    """A part is gone or not ready (the database file, another owner of the home): try later."""

    code = "unavailable"


class TimedOut(MainspringError):
    """The work did not end in its time: the message says what goes on in the background."""

    code = "timed_out"


class Misconfigured(MainspringError):
    """A setting is unknown or out of range: the message names the nearest known one."""

    code = "misconfigured"
