"""What a step calls while it works: training rows, and notes to its run."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime
from logging import getLogger
from typing import Any

import msgspec
import polars as pl

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import InvalidInput, Refused
from mainspring.core.ids import Digest, digest_of
from mainspring.pipelines.context import LoggedFile, Metric, RunContext, current_run
from mainspring.pipelines.step import Step

_log = getLogger("mainspring")


def _training_rows(endpoint: str, until: Instant) -> pl.DataFrame:
    """Give an endpoint's training rows before an instant, as of the run's watermark.

    Columns: the endpoint's key and time, its request columns, the views' features and `label`
    (null where it was not known yet). A step: its rows are kept and its key holds the pinned
    dataset versions, the declaration, `until` and the run's as-of instant.

    Raises:
        Refused: It was called outside a run, where no dataset versions are pinned.
    """
    context = current_run()
    if context is None:
        raise Refused(
            f"training_rows({endpoint!r}): found no run around the call, expected one, because a "
            "run pins the dataset versions; start the pipeline as a run, or read the datasets"
        )
    return context.rows(endpoint, utc(until))


def _rows_identity(context: RunContext, arguments: Mapping[str, Any]) -> Digest:
    return digest_of([context.rows_digest(arguments["endpoint"]), utc(arguments["until"])])


training_rows = Step(_training_rows, name="training_rows", identity=_rows_identity)


def log_params(params: Any) -> None:
    """Note parameters of the run: a dict, dataclass or Struct, nested ones with dotted keys.

    A parameter is written once. In a plain call outside a run the note goes to logging only.
    """
    flat = flattened(params)
    context = current_run()
    if context is None:
        _log.info("parameters, outside a run: %s", flat)
        return
    for key, value in flat.items():
        if context.notes.params.setdefault(key, value) != value:
            raise Refused(
                f"parameter {key!r} is {context.notes.params[key]!r} already, found {value!r}; "
                "parameters are written once: use another key"
            )


def log_metrics(metrics: Mapping[str, float], *, step: int = 0) -> None:
    """Note metrics of the run; NaN and infinite values are kept."""
    context = current_run()
    if context is None:
        _log.info("metrics at step %s, outside a run: %s", step, dict(metrics))
        return
    now = context.clock.now()
    context.notes.metrics.extend(
        Metric(key, float(value), step, now) for key, value in metrics.items()
    )


def log_tags(tags: Mapping[str, str]) -> None:
    """Note tags of the run; a tag logged again takes the new value."""
    context = current_run()
    if context is None:
        _log.info("tags, outside a run: %s", dict(tags))
        return
    context.notes.tags.update(tags)


def log_artifact(path: str, content: bytes) -> Digest | None:
    """Put bytes into blobs and note them under a path of the run; None outside a run."""
    context = current_run()
    if context is None:
        _log.info("artifact %s of %s bytes, outside a run: not kept", path, len(content))
        return None
    digest = context.blobs.put(content)
    context.notes.artifacts.append(LoggedFile(path, digest, len(content)))
    return digest


def flattened(params: Any, prefix: str = "") -> dict[str, str]:
    """Write nested parameters as texts under dotted keys.

    >>> flattened({"trees": {"depth": 6, "rates": [0.1, 0.2]}})
    {'trees.depth': '6', 'trees.rates.0': '0.1', 'trees.rates.1': '0.2'}
    """
    if isinstance(params, msgspec.Struct):
        params = msgspec.structs.asdict(params)
    elif is_dataclass(params) and not isinstance(params, type):
        params = {name: getattr(params, name) for name in params.__dataclass_fields__}
    match params:
        case dict() | list() | tuple() if params:
            items = params.items() if isinstance(params, dict) else enumerate(params)
            flat: dict[str, str] = {}
            for key, value in items:
                flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
            return flat
        case _ if not prefix and params not in ({}, [], ()):
            raise InvalidInput(
                f"parameters: found {type(params).__name__}, expected a dict or dataclass"
            )
        case _:
            return {prefix: _text(params)} if prefix else {}


def _text(value: Any) -> str:
    return utc(value).isoformat() if isinstance(value, datetime) and value.tzinfo else str(value)
