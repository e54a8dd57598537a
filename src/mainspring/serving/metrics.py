"""The workers' states as Prometheus text.

Every series carries its worker: whichever worker is asked, the same series come, and a counter
starts anew only with its worker.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from mainspring.formats.worker import BUCKETS_S, Work, WorkerState

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "mainspring_inference_"

_Value = Callable[[WorkerState], float]
_SIMPLE: tuple[tuple[str, str, str, _Value], ...] = (
    ("ready", "gauge", "Whether the worker serves every endpoint.", lambda s: s.ready),
    ("routes_number", "gauge", "Number of the route table in use.", lambda s: s.routes),
    ("requests_in_flight", "gauge", "Requests begun and not answered.", lambda s: s.in_flight),
    ("connections", "gauge", "Open connections.", lambda s: s.connections),
    ("models", "gauge", "Models loaded.", lambda s: s.models),
    ("problems", "gauge", "Problems that the worker tells of.", lambda s: len(s.problems)),
    ("requests_total", "counter", "Requests answered.", lambda s: s.requests),
    ("refused_total", "counter", "Requests answered with 400 to 499.", lambda s: s.refused),
    ("failures_total", "counter", "Requests answered with 500 or above.", lambda s: s.failures),
    ("fallback_rows_total", "counter", "Rows that a fallback answered.", lambda s: s.fallbacks),
    ("failed_rows_total", "counter", "Rows that no version scored.", lambda s: s.failed_rows),
    ("left_out_rows_total", "counter", "Rows the disk refused to record.", lambda s: s.left_out),
    ("cpu_seconds_total", "counter", "Processor time of the worker.", lambda s: s.cpu_s),
    ("resident_memory_bytes", "gauge", "Memory of the worker.", lambda s: s.memory_bytes),
    (
        "start_time_seconds",
        "gauge",
        "When the worker started, since 1970.",
        lambda s: s.started.timestamp(),
    ),
)


def prometheus_text(states: Sequence[WorkerState]) -> str:
    """Give all series of these workers."""
    lines: list[str] = []
    for name, kind, text, value in _SIMPLE:
        samples = [(_labels(worker=s.worker), value(s)) for s in states]
        _family(lines, name, kind, text, (("", labels, v) for labels, v in samples))
    _family(lines, "rows_total", "counter", "Rows answered, by version and role.", _rows(states))
    text = "Time of an answered prediction within the worker."
    _family(lines, "request_duration_seconds", "histogram", text, _durations(states))
    text = "Time of scoring; what is scored together counts for each request."
    spent = _worked(states, lambda work: work.compute_s, model="endpoint")
    _family(lines, "compute_seconds_total", "counter", text, spent)
    for name, text, of_work in _TRITON:
        triton = _worked(states, of_work)
        # No counters by their names, which the linter would have end in _total.
        _family(lines, name, "untyped", text, triton, prefix="")
    return "\n".join(lines) + "\n"


_TRITON: tuple[tuple[str, str, Callable[[Work], float]], ...] = (
    ("nv_inference_request_success", "Requests answered.", lambda w: w.requests),
    ("nv_inference_count", "Rows answered.", lambda w: w.rows),
)
"""Triton's names, where they mean what is counted here, for dashboards that know no others. Its
times are in microseconds by name, which the linter refuses; ours are in seconds.
"""


def _worked(
    states: Sequence[WorkerState], value: Callable[[Work], float], *, model: str = "model"
) -> Iterable[tuple[str, str, float]]:
    for state in states:
        found: dict[tuple[str, str, str], float] = {}
        for name, work in state.work.items():
            project, endpoint, rest = name.split("/", 2)
            version = rest.rpartition("/")[0]
            # Of all roles of a version, for which Triton has no label.
            place = (project, endpoint, version)
            found[place] = found.get(place, 0) + value(work)
        for (project, endpoint, version), count in sorted(found.items()):
            named = {"project": project, model: endpoint, "version": version}
            yield "", _labels(worker=state.worker, **named), count


_Sample = tuple[str, str, float]


def _family(
    lines: list[str],
    name: str,
    kind: str,
    text: str,
    samples: Iterable[_Sample],
    *,
    prefix: str = _PREFIX,
) -> None:
    full = prefix + name
    lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    lines += [f"{full}{suffix}{labels} {_number(value)}" for suffix, labels, value in samples]


def _rows(states: Sequence[WorkerState]) -> Iterable[_Sample]:
    for state in states:
        for name, rows in sorted(state.by_version.items()):
            project, endpoint, rest = name.split("/", 2)
            version, _, arm = rest.rpartition("/")
            named = {"project": project, "endpoint": endpoint, "version": version, "arm": arm}
            yield "", _labels(worker=state.worker, **named), rows


def _durations(states: Sequence[WorkerState]) -> Iterable[_Sample]:
    edges = [*(str(edge) for edge in BUCKETS_S), "+Inf"]
    for state in states:
        for name, latency in sorted(state.latency.items()):
            project, _, endpoint = name.partition("/")
            named = {"worker": state.worker, "project": project, "endpoint": endpoint}
            for edge, count in zip(edges, accumulate(latency.counts), strict=True):
                yield "_bucket", _labels(**named, le=edge), count
            yield "_sum", _labels(**named), latency.seconds
            yield "_count", _labels(**named), sum(latency.counts)


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
