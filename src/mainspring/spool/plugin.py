"""The entry points of the mlflow client: what it builds its store with, for http and https.

Loaded with every `import mlflow` where Mainspring is installed, so it loads nothing itself.
"""

from functools import partial
from typing import Any


def tracking_store(store_uri: str, **_: Any) -> Any:
    """Give the store for a server: spooling where the environment names a spool, else mlflow's."""
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.credentials import get_default_host_creds

    from mainspring.spool.settings import SpoolSettings

    credentials = partial(get_default_host_creds, store_uri)
    settings = SpoolSettings.of_environment()
    if settings is None:
        return RestStore(credentials)  # type: ignore[no-untyped-call]
    from mainspring.spool.store import SpoolingStore

    return SpoolingStore(credentials, store_uri, settings)


def line_to(target: str) -> Any:
    """Give the way to a server with the credentials of the environment, for whoever sends later."""
    from mlflow.utils.credentials import get_default_host_creds

    from mainspring.spool.line import HttpLine
    from mainspring.spool.live import LINE_TIMEOUT_S

    return HttpLine(partial(get_default_host_creds, target), timeout_s=LINE_TIMEOUT_S)
