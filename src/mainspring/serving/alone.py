"""One model served without a platform: a home with one route, and one worker on it."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.core.ids import DEFAULT_PROJECT, Digest
from mainspring.formats.model import Column
from mainspring.formats.routes import Arm, EndpointRoute, RouteTable, load, publish
from mainspring.formats.worker import WorkerState
from mainspring.serving.worker import Worker

WORKER = "serve"


def put_on_route(
    home: Home, endpoint: str, digest: Digest, columns: Sequence[Column], *, arm_timeout_s: float
) -> str:
    """Let an endpoint of this home answer with a model; gives its version.

    The same model again keeps its version; another one is the next.
    """
    table = load(home.routes) if home.routes.exists() else RouteTable(0, ())
    others = tuple(one for one in table.endpoints if one.endpoint != endpoint)
    before = next((one.arms[-1] for one in table.endpoints if one.endpoint == endpoint), None)
    if before is not None and before.manifest == digest:
        return before.version
    version = "1" if before is None else str(int(before.version) + 1)
    route = EndpointRoute(
        project=DEFAULT_PROJECT,
        endpoint=endpoint,
        salt=endpoint,
        arms=(Arm(version, digest, "live", 1.0),),
        request=tuple(columns),
        views=(),
        arm_timeout_s=arm_timeout_s,
        rollout=None,
    )
    publish(home.routes, RouteTable(table.number + 1, (*others, route)))
    return version


async def serve_alone(
    home: Home,
    config: Config,
    listening: socket.socket,
    calls: socket.socket | None,
    *,
    ready: Callable[[], None],
) -> WorkerState:
    """Serve until SIGTERM or SIGINT; gives what was counted."""
    worker = Worker(home, config, WORKER)
    asyncio.get_running_loop().add_signal_handler(2, worker.stop)
    await worker.serve(listening, calls=calls, ready=ready)
    return worker.state()
