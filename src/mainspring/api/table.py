"""The table of verbs: every route of the native API, each with its permission."""

from collections.abc import Iterable, Mapping

from mainspring.access.permissions import PERMISSIONS
from mainspring.api import access, data, endpoints, feed, ledger, models, project, runs
from mainspring.api.verb import AnyVerb

VERBS: tuple[AnyVerb, ...] = (
    project.APPLY,
    endpoints.STATUS,
    data.BEGIN,
    data.FINISH,
    data.ABANDON,
    data.LOG,
    data.SHOW,
    data.QUARANTINE,
    feed.PUSH,
    feed.LABEL,
    feed.OUTCOMES,
    feed.ADVANCE,
    feed.WATERMARK,
    runs.START,
    runs.LIST,
    runs.SHOW,
    runs.DIFF,
    runs.CANCEL,
    runs.OUTPUT,
    runs.SOURCES,
    runs.RENEW,
    runs.STEP_KNOWN,
    runs.STEP_DONE,
    runs.LOG,
    runs.LEAVE,
    runs.CLOSE,
    endpoints.SHOW,
    endpoints.WINDOWS,
    endpoints.COUNTS,
    endpoints.APPROVE,
    endpoints.REJECT,
    endpoints.PROMOTE,
    endpoints.ROLL_BACK,
    endpoints.ROUTES,
    ledger.EVENTS,
    ledger.VERIFY,
    ledger.TRACE,
    models.CARD,
    access.GRANT,
    access.REVOKE,
    access.ISSUE,
    access.REVOKE_TOKEN,
    access.LIST,
    access.LIST_TOKENS,
)


def table_of(verbs: Iterable[AnyVerb]) -> Mapping[str, AnyVerb]:
    """Give verbs by name, and refuse one that no role could ever call.

    Raises:
        RuntimeError: A name is taken twice, or PERMISSIONS does not know a verb's permission.
    """
    table: dict[str, AnyVerb] = {}
    for verb in verbs:
        if verb.name in table:
            raise RuntimeError(f"verb {verb.name!r} is in the table twice; give each its own name")
        if (verb.resource, verb.action) not in PERMISSIONS:
            raise RuntimeError(
                f"verb {verb.name!r} needs {verb.action!r} on {verb.resource!r}, which "
                "access.permissions does not name; add the pair there with its role"
            )
        table[verb.name] = verb
    return table


TABLE = table_of(VERBS)
"""By name; made when the module is loaded, so nothing starts with an unknown permission."""
