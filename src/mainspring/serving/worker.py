"""An inference worker: the engine behind HTTP, from its start to its drain."""

import asyncio
import gc
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.core.ids import IdSource
from mainspring.formats.routes import RouteTable
from mainspring.formats.tokens import TokenBook
from mainspring.formats.worker import WorkerState, alive, read_states, remove_state, write_state
from mainspring.serving.app import App, Asked, Open, Permission, Route
from mainspring.serving.callers import Callers
from mainspring.serving.connection import Connection
from mainspring.serving.counters import Counters, state_of
from mainspring.serving.door import Door, Limits
from mainspring.serving.engine import Engine
from mainspring.serving.http import TEXT, Response, failed
from mainspring.serving.infer import Inference
from mainspring.serving.metrics import TYPE, prometheus_text
from mainspring.serving.rest import Answered, RowProtocols
from mainspring.serving.shelf import Shelf
from mainspring.serving.v2 import V2

if TYPE_CHECKING:
    from mainspring.serving.http2 import CallDoor

_LOOK_S = 0.05
_TELL_S = 1.0
_BACKLOG = 1024
_DESCRIPTORS = 4096
_PREDICT = Permission("prediction", "predict")
_READ = Permission("endpoint", "read")
_PROBE = Open("probes tell no more than that the worker is there")


class Worker:
    """One worker on one home. All but the loading of models runs in the event loop's thread."""

    def __init__(self, home: Home, config: Config, worker: str) -> None:
        self._home = home
        self._config = config
        self._clock = SystemClock()
        ids = IdSource(self._clock)
        self.engine = Engine(
            home,
            worker=worker,
            clock=self._clock,
            ids=ids,
            sync_s=config.segment_sync_s,
            loaded_models=config.loaded_models,
        )
        self._worker = worker
        self._v2 = V2(self.engine)
        self._inference = Inference(self.engine, clock=self._clock, ids=ids)
        self._rest = RowProtocols(self.engine, clock=self._clock, ids=ids)
        self._counters = Counters()
        self._started = self._clock.now()
        self._told: WorkerState | None = None
        self._told_at_s = 0.0
        self._silenced = False
        self._shadows_asked = False
        self._ids, self._limits = ids, _limits(config)
        self._callers = callers = Callers(config, TokenBook(home))
        self.app = App(self._routes(), callers, before=self._look, after=self._answered)
        self._door = Door(self.app.answer, self._limits, now=time.monotonic)
        self._calls: CallDoor | None = None
        self._stopping = asyncio.Event()
        self._at_once = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loading: asyncio.Future[Shelf] | None = None
        self._loads_next: RouteTable | None = None

    async def serve(
        self,
        listening: socket.socket,
        *,
        ready: Callable[[], None],
        calls: socket.socket | None = None,
    ) -> None:
        """Serve until `stop`; what is on the routes is loaded before the first connection.

        Args:
            listening: May be shared with other workers; each connection belongs to one.
            ready: Called once requests are answered.
            calls: Where gRPC is served, if it is; shared as well.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        self.engine.recall()
        self.engine.refresh()
        # What is loaded stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        self._loop = loop
        listening.setblocking(False)
        server = await loop.create_server(
            lambda: Connection(self._door), sock=listening, backlog=_BACKLOG
        )
        call_server = None if calls is None else await self._serve_calls(loop, calls)
        self._tell()
        ready()
        await self._tick_until_stopped()
        server.close()
        if call_server is not None:
            call_server.close()
        if not self._at_once:
            await self._drain()
        self._door.abort()
        if self._calls is not None:
            self._calls.abort()
        self.engine.close()
        remove_state(self._home, self._worker)

    async def _serve_calls(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket
    ) -> asyncio.Server:
        # Here, because few homes speak gRPC: a worker without it holds neither library.
        from mainspring.serving.calls import Calls
        from mainspring.serving.grpc_infer import GrpcInference
        from mainspring.serving.http2 import CallConnection, CallDoor

        answering = Calls(
            self.engine,
            GrpcInference(self.engine, clock=self._clock, ids=self._ids),
            self._callers,
            before=self._look,
            ready=self.ready,
            count=self._counters.answered,
            predicted=self._counters.predicted,
            after=self._ask_shadows,
        )
        self._calls = door = CallDoor(answering.answer, self._limits, now=time.monotonic)
        listening.setblocking(False)
        return await loop.create_server(
            lambda: CallConnection(door), sock=listening, backlog=_BACKLOG
        )

    def stop(self, *, at_once: bool = False) -> None:
        """End: finish what is begun within `drain_s`, or at once."""
        self._at_once = self._at_once or at_once
        self._stopping.set()

    def state(self) -> WorkerState:
        """Give what the worker tells of itself, as of now."""
        return state_of(
            self.engine, self._counters, self._door, started=self._started, ready=self.ready()
        )

    def ready(self) -> bool:
        """Tell whether every endpoint on the routes is served; none published yet is fine."""
        status = self.engine.status()
        read = status.taken or not self._home.routes.exists()
        served = all(endpoint.routes is not None for endpoint in status.endpoints)
        return read and served and not self._door.draining

    async def _tick_until_stopped(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_S)
            self._look()
            if time.monotonic() - self._told_at_s >= _TELL_S:
                self._door.sweep()
                if self._calls is not None:
                    self._calls.sweep()
                self.engine.sync()
                self._tell(changed=True)

    async def _drain(self) -> None:
        self._door.draining = True
        if self._calls is not None:
            self._calls.drain()
        self._tell()
        ends = time.monotonic() + self._config.drain_s
        # A kept connection that is closed between two requests may lose the one on its way:
        # those in use get their close with an answer, the others end after this.
        grace_ends = time.monotonic() + min(1.0, self._config.drain_s / 4)
        while self._busy() and time.monotonic() < ends:
            if time.monotonic() >= grace_ends:
                self._door.close_idle()
            self._door.sweep()
            await asyncio.sleep(_LOOK_S / 2)

    def _busy(self) -> bool:
        calls = self._calls is not None and self._calls.in_flight
        return bool(self._door.open or calls)

    def _look(self) -> None:
        """Take over a new table: at once if its models are there, else when they are loaded."""
        table = self.engine.news()
        if table is None:
            return
        if self._loop is None or not self.engine.can_wait(table):
            self._take(self.engine.stock(table))
        elif self._loading is None:
            self._load(table)
        else:
            self._loads_next = table

    def _load(self, table: RouteTable) -> None:
        # The runtime gives the interpreter free while it loads and scores: answers go on.
        assert self._loop is not None
        self._loading = self._loop.run_in_executor(None, self.engine.stock, table)
        self._loading.add_done_callback(self._loaded)

    def _loaded(self, loading: asyncio.Future[Shelf]) -> None:
        self._loading, table, self._loads_next = None, self._loads_next, None
        if not loading.cancelled():
            self._take(loading.result())
        if table is not None and not self._stopping.is_set():
            self._load(table)

    def _take(self, shelf: Shelf) -> None:
        if self.engine.take(shelf):
            self._tell()

    def _tell(self, *, changed: bool = False) -> WorkerState:
        """Write the state; with `changed` only if more than the running figures differ."""
        self._told_at_s = time.monotonic()
        state = self.state()
        if changed and self._told is not None and _settled(state) == _settled(self._told):
            return state
        try:
            write_state(self._home, state)
        except OSError as error:
            if not self._silenced:
                print(f"worker {self._worker}: state not written ({error})", file=sys.stderr)
            self._silenced = True
            return state
        self._told, self._silenced = state, False
        return state

    def _answered(self, responses: Sequence[Response]) -> None:
        for response in responses:
            self._counters.answered(response.status)
        self._ask_shadows()

    def _ask_shadows(self) -> None:
        if self.engine.shadows_waiting and not self._shadows_asked:
            self._shadows_asked = True
            asyncio.get_running_loop().call_soon(self._score_shadows)

    def _score_shadows(self) -> None:
        self._shadows_asked = False
        self.engine.score_shadows()

    def _routes(self) -> tuple[Route, ...]:
        infer, v2 = self._timed(self._infer), self._v2
        model = "/v2/models/{endpoint}"
        version = f"{model}/versions/{{version}}"
        routes = [
            Route("GET", "/health", _PROBE, lambda _: Response(200, b"OK", TEXT)),
            Route("GET", "/ready", _PROBE, lambda _: self._readiness()),
            Route("GET", "/metrics", Permission("home", "read"), lambda _: self._metrics()),
            Route("GET", "/v2", _PROBE, lambda _: self._v2.server()),
            Route("GET", "/v2/health/live", _PROBE, lambda _: Response(200, b'{"live":true}')),
            Route("GET", "/v2/health/ready", _PROBE, lambda _: self._readiness()),
            Route("POST", "/v2/repository/index", _READ, lambda a: v2.index(a.project)),
            Route(
                "POST",
                "/v2/repository/models/{endpoint}/load",
                _READ,
                lambda a: v2.load(a.project, a.endpoint),
            ),
            Route(
                "POST",
                "/v2/repository/models/{endpoint}/unload",
                _READ,
                lambda a: v2.unload(a.project, a.endpoint),
            ),
        ]
        for path in (model, version):
            routes += [
                Route("POST", f"{path}/infer", _PREDICT, together=infer),
                Route("GET", path, _READ, lambda a: v2.metadata(a.project, a.endpoint, a.version)),
                Route(
                    "GET",
                    f"{path}/ready",
                    _READ,
                    lambda a: v2.ready(a.project, a.endpoint, a.version),
                ),
                Route(
                    "GET",
                    f"{path}/stats",
                    _READ,
                    lambda a: v2.statistics(a.project, a.endpoint, a.version),
                ),
            ]
        return (*routes, *self._row_routes())

    def _row_routes(self) -> list[Route]:
        rest, model = self._rest, "/v1/models/{endpoint}"
        routes = [
            Route("GET", "/ping", _PROBE, rest.ping),
            Route("GET", "/version", _PROBE, rest.version),
            Route("GET", "/v1/models", _READ, rest.models),
        ]
        scoring, predict = self._timed(rest.invocations), self._timed(rest.predict)
        routes += [
            Route("POST", "/invocations", _PREDICT, together=scoring),
            Route("POST", "/endpoints/{endpoint}/invocations", _PREDICT, together=scoring),
        ]
        for path in (model, f"{model}/versions/{{version}}", f"{model}/labels/{{version}}"):
            routes += [
                Route("POST", path, _PREDICT, together=predict),
                Route("GET", path, _READ, rest.model),
                Route("GET", f"{path}/metadata", _READ, rest.metadata),
            ]
        return routes

    def _infer(self, asked: Sequence[Asked], *, started_s: float) -> list[Answered]:
        found = dict(self._inference.answer(asked, started_s=started_s))
        return [(one.endpoint, found[i]) for i, one in enumerate(asked)]

    def _timed(
        self, answering: Callable[..., list[Answered]]
    ) -> Callable[[Sequence[Asked]], list[Response | Exception]]:
        """Count the time of what is answered, by the endpoint that answered it."""

        def answer(asked: Sequence[Asked]) -> list[Response | Exception]:
            started_s = self._clock.monotonic_s()
            answers = answering(asked, started_s=started_s)
            # Each waited for all of them.
            spent_s = self._clock.monotonic_s() - started_s
            for one, (endpoint, given) in zip(asked, answers, strict=True):
                if isinstance(given, Response) and given.status == 200:
                    self._counters.predicted(one.project, endpoint, spent_s)
            return [given for _, given in answers]

        return answer

    def _readiness(self) -> Response:
        if self.ready():
            return Response(200, b'{"ready":true}')
        # Said to everybody: names and reasons are in the metrics and the worker's state.
        reason = "it is ending" if self._door.draining else "an endpoint has no version loaded"
        return failed(503, f"worker not ready: {reason}; ask again in a moment")

    def _metrics(self) -> Response:
        # Written first: the next scrape may meet another worker, and must not see less than this.
        mine = self._tell()
        others = [
            state
            for state in read_states(self._home)
            if state.worker != self._worker and alive(state)
        ]
        states = sorted([*others, mine], key=lambda state: state.worker)
        return Response(200, prometheus_text(states).encode(), TYPE)


def _settled(state: WorkerState) -> object:
    return (
        (state.ready, state.routes, state.problems, state.connections, state.in_flight),
        (state.requests, state.rows, state.left_out),
    )


def _limits(config: Config) -> Limits:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    body_bytes = max(1, config.request_limit_mib) << 20
    # Models, segments and online tables need descriptors of their own.
    return Limits(body_bytes=body_bytes, connections=max(16, min(soft - 128, 2048)))
