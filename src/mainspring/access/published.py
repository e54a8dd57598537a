"""The tokens as the data plane reads them: published beside the routes, hashes only."""

from threading import Lock

from sqlalchemy import select

from mainspring.access.permissions import PERMISSIONS, Role, reaches
from mainspring.access.tables import GRANT, TOKEN
from mainspring.core.home import Home
from mainspring.formats.tokens import PublishedToken, PublishedTokens, publish_tokens
from mainspring.store.database import Database

_OF_THE_DATA_PLANE = (("prediction", "predict"), ("endpoint", "read"), ("home", "read"))


class TokenPublisher:
    """Writes the tokens of all projects for the workers. Thread-safe.

    The home's owner calls it at its start and after each grant, revocation and issue. A worker
    looks before every request, so what was revoked is refused once `publish` has returned.
    """

    def __init__(self, database: Database, home: Home) -> None:
        self._database = database
        self._home = home
        self._lock = Lock()
        self.changes = 0
        """How often roles or tokens may have changed: who keeps what they read looks here."""

    def publish(self) -> None:
        """Write what the database holds now."""
        # Read inside the lock: of two publishers the later writer has the newer state.
        with self._lock:
            # Counted before it can fail: what was kept is old even if the workers are not told.
            self.changes += 1
            publish_tokens(self._home, PublishedTokens(self._tokens()))

    def _tokens(self) -> tuple[PublishedToken, ...]:
        same = (TOKEN.c.project == GRANT.c.project) & (TOKEN.c.name == GRANT.c.name)
        query = select(TOKEN.c.hash, TOKEN.c.project, TOKEN.c.name, GRANT.c.role)
        with self._database.read() as connection:
            rows = connection.execute(query.select_from(TOKEN.outerjoin(GRANT, same))).all()
        return tuple(
            PublishedToken(row.hash, row.project, row.name, row.role, allowed(row.role))
            for row in rows
        )


def allowed(role: Role | None) -> tuple[str, ...]:
    """List what a role may ask of the data plane.

    >>> allowed("viewer")
    ('prediction/predict', 'endpoint/read', 'home/read')
    >>> allowed(None)
    ()
    """
    if role is None:
        return ()
    return tuple(
        f"{resource}/{action}"
        for resource, action in _OF_THE_DATA_PLANE
        if reaches(role, PERMISSIONS[resource, action])
    )
