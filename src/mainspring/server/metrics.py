"""Numbers for Prometheus: what the door counts, and what is read when somebody looks."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from mainspring.core.errors import MainspringError
from mainspring.formats.worker import WorkerState, read_states
from mainspring.loop import state
from mainspring.loop.observe import endpoint_now
from mainspring.platform import Platform
from mainspring.server.control import Control
from mainspring.server.routing import Asked, Permission, Placed, Route
from mainspring.supervisor.memory import memory_mib

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
NOWHERE = "none"
"""Label of what has no route: a path that a caller made up must not become a label."""


class Measured:
    """The control process's numbers, in a registry of their own. Thread-safe."""

    def __init__(self, platform: Platform, control: Control) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mainspring_requests",
            "Requests answered by the control process.",
            ["face", "route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "mainspring_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["face", "route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        # Looking labels up costs more than counting.
        self._series: dict[tuple[Placed | None, int], tuple[Counter, Histogram | None]] = {}
        self._registry.register(_AsSeen(platform, control))

    def request(self, placed: Placed | None, status: int, seconds: float) -> None:
        """Count a request; status 0 stands for a caller who went away."""
        found = self._series.get((placed, status))
        if found is None:
            found = self._series[placed, status] = self._series_of(placed, status)
        counter, histogram = found
        counter.inc()
        if histogram is not None:
            histogram.observe(seconds)

    def _series_of(self, placed: Placed | None, status: int) -> tuple[Counter, Histogram | None]:
        face, path, method = NOWHERE, NOWHERE, NOWHERE
        if placed is not None:
            face, path, method = placed.face.name or NOWHERE, placed.path, placed.route.method
        timed = placed is None or not placed.route.streams
        return (
            self._requests.labels(face, path, method, str(status)),
            self._seconds.labels(face, path) if timed else None,
        )

    def route(self) -> Route:
        """Give `/metrics`."""

        def handler(_: Asked) -> Response:
            content = generate_latest(self._registry)
            return Response(content, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

        # It names projects, endpoints and versions: not for nobody.
        return Route("GET", "/metrics", Permission("home", "read"), handler)


class _AsSeen(Collector):
    """What is read at each look: nothing is worked out between two."""

    def __init__(self, platform: Platform, control: Control) -> None:
        self._platform = platform
        self._control = control

    def describe(self) -> Iterable[Metric]:
        """Say nothing before the first look: registering must not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._processes()
        yield from _workers(read_states(self._platform.home))
        waiting = self._platform.database.waiting()
        yield _gauge("mainspring_database_queue", "Writes that wait for the database.", waiting)
        try:
            newest = self._platform.ledger.facts(newest_first=True, limit=1)
            endpoints = list(self._endpoints())
        except MainspringError:
            # The file is gone or damaged: /ready says so; the other numbers are still true.
            return
        facts = CounterMetricFamily("mainspring_ledger_facts", "Facts in the ledger.")
        facts.add_metric([], newest[0].seq if newest else 0)
        yield facts
        yield from endpoints

    def _processes(self) -> Iterator[Metric]:
        labels = ["role", "name"]
        up = GaugeMetricFamily(
            "mainspring_process_up", "Whether a process is ready.", labels=labels
        )
        restarts = CounterMetricFamily(
            "mainspring_process_restarts", "Starts after the first.", labels=labels
        )
        memory = GaugeMetricFamily(
            "mainspring_process_memory_bytes", "A process's share of memory.", labels=labels
        )
        for process in self._control.processes:
            if process.role == "run":
                # Runs come and go: their names would be labels without end.
                continue
            named = [process.role, process.name]
            up.add_metric(named, 1.0 if process.state == "ready" else 0.0)
            restarts.add_metric(named, process.restarts)
            mib = memory_mib(process.pid) if process.pid else None
            if mib is not None:
                memory.add_metric(named, round(mib * 2**20))
        return iter((up, restarts, memory))

    def _endpoints(self) -> Iterator[Metric]:
        labels = ["project", "endpoint"]
        lag = GaugeMetricFamily(
            "mainspring_endpoint_watermark_lag_seconds",
            "Wall time since the endpoint's watermark.",
            labels=labels,
        )
        live = InfoMetricFamily("mainspring_endpoint_live", "The live version.", labels=labels)
        alarms = GaugeMetricFamily(
            "mainspring_endpoint_open_alarms", "Alarms that have not ended.", labels=labels
        )
        share = GaugeMetricFamily(
            "mainspring_endpoint_rollout_share",
            "Share of keys that the open rollout's candidate answers; 0 without one.",
            labels=labels,
        )
        for name in self._platform.declared():
            stages = self._platform.project(name).stages
            with stages.database.read() as connection:
                declared = state.endpoints(connection, name)
                versions = {
                    spec.name: state.live_version(connection, name, spec.name) for spec in declared
                }
                rollouts = {
                    spec.name: state.open_rollout(connection, name, spec.name) for spec in declared
                }
            for spec in declared:
                named = [name, spec.name]
                now = endpoint_now(stages, spec)
                if spec.time == "event" and now is not None:
                    lag.add_metric(named, (stages.clock.now() - now).total_seconds())
                version, rollout = versions[spec.name], rollouts[spec.name]
                if version is not None:
                    live.add_metric(named, {"version": version.version})
                alarms.add_metric(named, len(stages.monitoring.alarms(spec.name, only_open=True)))
                share.add_metric(named, 0.0 if rollout is None else rollout.share)
        return iter((lag, live, alarms, share))


def _workers(states: Iterable[WorkerState]) -> Iterator[Metric]:
    """Give each worker's own counts: a sum over workers would fall when one starts anew."""
    counted = {
        "requests": "Requests answered by a worker.",
        "rows": "Rows answered by a version.",
        "failures": "Requests answered with a status of 500 or above.",
        "left_out": "Rows answered that the disk refused to record.",
    }
    families: dict[str, Any] = {
        name: CounterMetricFamily(f"mainspring_inference_{name}", said, labels=["worker"])
        for name, said in counted.items()
    }
    ready = GaugeMetricFamily(
        "mainspring_inference_ready", "Whether a worker serves every route.", labels=["worker"]
    )
    newest = GaugeMetricFamily(
        "mainspring_inference_routes", "Number of the routes a worker has.", labels=["worker"]
    )
    predictions = CounterMetricFamily(
        "mainspring_predictions",
        "Rows answered.",
        labels=["worker", "project", "endpoint", "version", "arm"],
    )
    for one in states:
        for name, family in families.items():
            family.add_metric([one.worker], getattr(one, name))
        ready.add_metric([one.worker], 1.0 if one.ready else 0.0)
        newest.add_metric([one.worker], one.routes)
        for place, rows in one.by_version.items():
            parts = place.split("/")
            if len(parts) == 4:
                predictions.add_metric([one.worker, *parts], rows)
    return iter((*families.values(), ready, newest, predictions))


def _gauge(name: str, said: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, said)
    family.add_metric([], value)
    return family
