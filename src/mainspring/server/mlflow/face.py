"""The MLflow face: its prefixes, and what lies below each."""

from collections.abc import Sequence
from importlib.metadata import version

from starlette.responses import PlainTextResponse, Response

from mainspring.server.mlflow import (
    artifacts,
    assessments,
    experiments,
    logged_models,
    logs,
    metrics,
    old_traces,
    questions,
    registered,
    runs,
    scorers,
    spans,
    spools,
    trace_metrics,
    traces,
    versions,
    webhooks,
)
from mainspring.server.mlflow.errors import on_error
from mainspring.server.mlflow.table import routes
from mainspring.server.mlflow.wire import Message, answer
from mainspring.server.routing import Asked, Face, Open, Route

NAME = "mlflow"
PREFIXES = ("/api", "/ajax-api")
"""Of programs, and of pages."""

_SAYS_NOTHING = Open("says only which server this is")


class ServerInfo(Message, frozen=True, kw_only=True):
    store_type: str
    workspaces_enabled: bool


def faces() -> Sequence[Face]:
    """Give the face at each of its prefixes.

    The parts are faces of their own, so that an unknown path below them is told in MLflow's way.
    """
    below = [
        *routes(experiments.ENDPOINTS),
        *routes(runs.ENDPOINTS),
        *routes(logs.ENDPOINTS),
        *routes(metrics.ENDPOINTS),
        *routes(logged_models.ENDPOINTS),
        *routes(registered.ENDPOINTS),
        *routes(versions.ENDPOINTS),
        *routes(traces.OLD_ENDPOINTS),
        *routes(old_traces.ENDPOINTS),
        *routes(webhooks.ENDPOINTS),
        *routes(spools.ENDPOINTS),
        *artifacts.run_routes(),
    ]
    told = Route("GET", "/version", _SAYS_NOTHING, _version)
    found = [_face("", [*artifacts.page_routes(), told, spans.EXPORT])]
    info = Route("GET", "/server-info", _SAYS_NOTHING, _info)
    newer = [
        info,
        *routes(spans.ENDPOINTS),
        *routes(trace_metrics.ENDPOINTS),
        *routes(traces.ENDPOINTS),
        *routes(assessments.ENDPOINTS),
        *routes(questions.ENDPOINTS),
        *routes(scorers.ENDPOINTS),
    ]
    for prefix in PREFIXES:
        found += [
            _face(f"{prefix}/2.0/mlflow", below),
            _face(f"{prefix}/3.0/mlflow", newer),
            _face(f"{prefix}/2.0/mlflow-artifacts", artifacts.proxy_routes()),
        ]
    return found


def _face(prefix: str, routes: Sequence[Route]) -> Face:
    return Face(prefix, routes, on_error, name=NAME)


def _version(_: Asked) -> Response:
    return PlainTextResponse(version("mainspring"))


def _info(_: Asked) -> Response:
    return answer(ServerInfo(store_type="mainspring", workspaces_enabled=False))
