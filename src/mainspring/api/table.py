"""The table of verbs: every route of the native API, each with its permission."""

from collections.abc import Mapping

from mainspring.api import access, data, endpoints, feed, ledger, project, runs
from mainspring.api.verb import AnyVerb

VERBS: tuple[AnyVerb, ...] = (
    project.APPLY,
    endpoints.STATUS,
    data.BEGIN,
    data.FINISH,
    data.LOG,
    data.SHOW,
    data.QUARANTINE,
    feed.PUSH,
    feed.LABEL,
    feed.ADVANCE,
    runs.START,
    runs.LIST,
    runs.SHOW,
    runs.LEASE,
    runs.RENEW,
    runs.STEP_KNOWN,
    runs.STEP_DONE,
    runs.LOG,
    runs.CLOSE,
    endpoints.SHOW,
    endpoints.APPROVE,
    endpoints.REJECT,
    endpoints.PROMOTE,
    endpoints.ROLL_BACK,
    ledger.EVENTS,
    ledger.VERIFY,
    ledger.TRACE,
    access.GRANT,
    access.REVOKE,
    access.ISSUE,
)

TABLE: Mapping[str, AnyVerb] = {verb.name: verb for verb in VERBS}
