"""Blocks of the request log as rows: wide ones for Delta, narrow ones for the database.

Delta's schema is strict, and endpoints differ in their features, as does one endpoint over time.
So each set of columns has a table of its own: `predictions.<endpoint>.<digest of the columns>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.ids import digest_of
from mainspring.formats.segment import ArmOutput, Block
from mainspring.monitoring.drift import FEATURE
from mainspring.monitoring.times import day_of, span

_OUTPUT: dict[str, Any] = {
    "version": pl.String,
    "value": pl.Float64,
    "failed": pl.Boolean,
    "error": pl.String,
    "timed_out": pl.Boolean,
    "latency_us": pl.Int64,
}
_PER_ROW: dict[str, Any] = {
    "prediction": pl.String,
    "row": pl.Int64,
    "request": pl.String,
    "key": pl.String,
    "event_time_us": pl.Int64,
    "at_us": pl.Int64,
    "routes": pl.Int64,
    "rollout": pl.String,
    "chosen": pl.String,
    "version": pl.String,
    "role": pl.String,
    "propensity": pl.Float64,
    "queue_us": pl.Int64,
    "features_us": pl.Int64,
    "compute_us": pl.Int64,
}
_LONGEST_NAME = 80
_DAY_US = span(timedelta(days=1))


@dataclass(frozen=True, slots=True)
class Rows:
    """What one range adds to one Delta table and to the table of predictions."""

    endpoint: str
    table: str
    frame: pl.DataFrame
    predictions: dict[str, list[Any]]
    """Columns of the table of predictions, but for `number` and `repeat_of`."""

    @property
    def answered(self) -> bool:
        """Whether these are rows that were answered; the others are what shadows gave."""
        return bool(self.predictions)


@dataclass(frozen=True, slots=True)
class _Shape:
    endpoint: str
    floats: tuple[str, ...]
    strings: tuple[str, ...]
    views: tuple[str, ...]

    @property
    def table(self) -> str:
        names = [self.floats, self.strings, self.views]
        return (
            f"predictions.{self.endpoint[:_LONGEST_NAME]}.{digest_of([self.endpoint, names])[:8]}"
        )


def flatten(blocks: Sequence[Block]) -> list[Rows]:
    """Turn blocks of one project into rows, table by table, in the order of the log."""
    shapes: dict[_Shape, list[Block]] = {}
    shadows: dict[str, list[Block]] = {}
    for block in blocks:
        if block.kind == "shadow":
            shadows.setdefault(block.endpoint, []).append(block)
        elif block.keys:
            names = (tuple(block.float_names), tuple(block.strings), tuple(block.views))
            shapes.setdefault(_Shape(block.endpoint, *names), []).append(block)
    answered = [_answered(shape, mine) for shape, mine in shapes.items()]
    return answered + [_shadowed(endpoint, mine) for endpoint, mine in shadows.items()]


def _answered(shape: _Shape, blocks: Sequence[Block]) -> Rows:
    scores = [
        {version: _scores(output) for version, output in block.outputs.items()} for block in blocks
    ]
    columns = _columns(blocks, scores)
    days = {time // _DAY_US: day_of(time) for time in columns["event_time_us"]}
    dates = [days[time // _DAY_US] for time in columns["event_time_us"]]
    frame = pl.DataFrame(
        [
            *(pl.Series(name, columns[name], dtype=dtype) for name, dtype in _PER_ROW.items()),
            pl.Series("date", dates, dtype=pl.String),
            pl.Series("score", columns["score"], dtype=pl.Float64),
            pl.Series("fallback", columns["fallback"], dtype=pl.Int64).cast(pl.Boolean),
            _outputs(blocks, scores),
            *_features(shape, blocks),
            *_view_times(shape, blocks),
        ]
    )
    return Rows(shape.endpoint, shape.table, frame, {name: columns[name] for name in _NARROW})


def _features(shape: _Shape, blocks: Sequence[Block]) -> list[pl.Series]:
    tables = [
        np.frombuffer(block.floats, "<f8").reshape(len(shape.floats), len(block.keys))
        for block in blocks
    ]
    numbers = np.concatenate(tables, axis=1)
    found = [
        pl.Series(FEATURE + n, column) for n, column in zip(shape.floats, numbers, strict=True)
    ]
    for name in shape.strings:
        texts = list(chain.from_iterable(block.strings[name] for block in blocks))
        found.append(pl.Series(FEATURE + name, texts, dtype=pl.String))
    return found


def _view_times(shape: _Shape, blocks: Sequence[Block]) -> list[pl.Series]:
    found = []
    for view in shape.views:
        uses = [block.views[view] for block in blocks]
        for prefix, used in (
            ("t_", [u.times_us for u in uses]),
            ("a_", [u.arrivals_us for u in uses]),
        ):
            series = pl.Series(prefix + view, list(chain.from_iterable(used)), dtype=pl.Int64)
            found.append(series.replace(-1, None))
    return found


_NARROW = (
    "project",
    "endpoint",
    "prediction",
    "row",
    "request",
    "key",
    "event_time_us",
    "at_us",
    "version",
    "role",
    "rollout",
    "score",
    "live_version",
    "live_score",
    "candidate_version",
    "candidate_score",
    "fallback",
)


_Scores = dict[str, list[float | None]]
"""Per version: what it gave for each row of a block; None where it failed or was not asked."""


def _columns(blocks: Sequence[Block], scores: Sequence[_Scores]) -> dict[str, list[Any]]:
    """Give what is known of each row, column by column: dictionaries row by row cost four times."""
    columns: dict[str, list[Any]] = {name: [] for name in {*_PER_ROW, *_NARROW}}
    for block, by_version in zip(blocks, scores, strict=True):
        n = len(block.keys)
        live, candidate = _arms(block)
        nothing: list[float | None] = [None] * n
        same = {
            "project": block.project,
            "endpoint": block.endpoint,
            "prediction": block.prediction,
            "request": block.request,
            "at_us": block.at_us,
            "routes": block.routes,
            "rollout": block.rollout,
            "live_version": live,
            "candidate_version": candidate,
            "queue_us": block.queue_us,
            "features_us": block.features_us,
            "compute_us": block.compute_us,
        }
        for name, value in same.items():
            columns[name] += [value] * n
        answered = zip(block.versions, block.chosen, strict=True)
        own: dict[str, Sequence[Any]] = {
            "row": range(n),
            "key": block.keys,
            "event_time_us": block.event_times_us,
            "chosen": block.chosen,
            "version": block.versions,
            "role": block.arms,
            "propensity": block.propensity,
            "score": [by_version[v][i] if v else None for i, v in enumerate(block.versions)],
            "live_score": by_version.get(live or "", nothing),
            "candidate_score": by_version.get(candidate or "", nothing),
            "fallback": [int(version != chosen) for version, chosen in answered],
        }
        for name, values in own.items():
            columns[name] += values
    return columns


def _arms(block: Block) -> tuple[str | None, str | None]:
    """Tell which version was live and which the candidate of the rollout.

    Known from the role of those that answered; the other arm that scored is the other of the two.
    Where nobody answered any row neither is known, and no guard could learn from it.
    """
    roles = dict(zip(block.arms, block.versions, strict=True))
    others = [v for v in block.outputs if v not in (roles.get("live"), roles.get("canary"))]
    live, candidate = roles.get("live"), roles.get("canary")
    if block.rollout is None:
        return live or (others[0] if len(others) == 1 else None), None
    if live is None and candidate is not None and len(others) == 1:
        live = others[0]
    elif candidate is None and live is not None and len(others) == 1:
        candidate = others[0]
    return live, candidate


def _scores(output: ArmOutput) -> list[float | None]:
    scores: list[float | None] = output.array().tolist()
    for place in output.failed:
        scores[place] = None
    # NaN without a failure: the arm was not asked for this row.
    return [None if score is None or score != score else score for score in scores]


def _outputs(blocks: Sequence[Block], scores: Sequence[_Scores]) -> pl.Series:
    """Give each row the list of what its arms gave.

    Built flat and gathered by Polars: a list of dictionaries costs ten times as much.
    """
    flat: dict[str, list[Any]] = {name: [] for name in ("at", *_OUTPUT)}
    first = 0
    for block, by_version in zip(blocks, scores, strict=True):
        n = len(block.keys)
        for version, output in block.outputs.items():
            failed = set(output.failed)
            flat["at"] += range(first, first + n)
            flat["version"] += [version] * n
            flat["value"] += by_version[version]
            flat["failed"] += [place in failed for place in range(n)]
            flat["error"] += [output.error if place in failed else None for place in range(n)]
            flat["timed_out"] += [output.timed_out] * n
            flat["latency_us"] += [output.latency_us] * n
        first += n
    columns = {name: pl.Series(flat[name], dtype=dtype) for name, dtype in _OUTPUT.items()}
    if flat["at"] == list(range(first)):
        # One arm a row, as between rollouts: no grouping is needed.
        return (
            pl.DataFrame(columns)
            .select(pl.concat_list(pl.struct(list(_OUTPUT))))[:, 0]
            .alias("outputs")
        )
    arms = pl.DataFrame({"at": pl.Series(flat["at"], dtype=pl.Int64), **columns})
    lists = arms.group_by("at", maintain_order=True).agg(pl.struct(list(_OUTPUT)).alias("outputs"))
    rows = pl.DataFrame({"at": pl.Series(range(first), dtype=pl.Int64)})
    return rows.join(lists, on="at", how="left", maintain_order="left")["outputs"]


def _shadowed(endpoint: str, blocks: Sequence[Block]) -> Rows:
    """What shadows gave after the answer: joined to it by prediction and row."""
    rows = [
        (day_of(block.at_us), block.prediction, place, version, value, output.error)
        for block in blocks
        for version, output in block.outputs.items()
        for place, value in zip(range(len(output.array())), _scores(output), strict=True)
    ]
    schema: dict[str, Any] = {
        "date": pl.String,
        "prediction": pl.String,
        "row": pl.Int64,
        "version": pl.String,
        "value": pl.Float64,
        "error": pl.String,
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    name = f"shadows.{endpoint[:_LONGEST_NAME]}.{digest_of(endpoint)[:8]}"
    return Rows(endpoint, name, frame, {})
