"""`log_model`: from a trained model to a folder that serves, proves and explains itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput, Refused, Unconvertible
from mainspring.core.ids import canonical, checked_name
from mainspring.formats.model import Column, Goldens, Signature
from mainspring.formats.parity import run
from mainspring.formats.write import build_folder, put_folder
from mainspring.pipelines.context import LoggedFile, ModelNote, RunContext, current_run
from mainspring.pipelines.conversion import graph_of, merged_of
from mainspring.pipelines.environment import as_json, capture
from mainspring.pipelines.inference import PARTS, InferenceGraph
from mainspring.pipelines.logged_model import LoggedModel
from mainspring.pipelines.reference import reference_of
from mainspring.pipelines.served import columns_of, served_rows, spread_over
from mainspring.stats.calibration import CalibrationMap, fit_calibration

if TYPE_CHECKING:
    from mainspring.store.blobs import Blobs

GOLDEN_ROWS = 48
SCORED_ROWS = 20_000
_TOLERANCE = 1e-5


def log_model(
    model: Any,
    *,
    inputs: Sequence[str],
    rows: pl.DataFrame,
    label: str | None = None,
    calibrate_on: pl.DataFrame | None = None,
    holdout: int | None = None,
    name: str | None = None,
    blobs: "Blobs | None" = None,
) -> LoggedModel:
    """Convert a model, prove the conversion, and log its folder in the run.

    Equal arguments in an equal environment give a folder of equal digest.

    Args:
        model: LightGBM, scikit-learn estimator or Pipeline, or an ONNX model or its bytes;
            or an inference graph: `chain`, `join`, `stack` or `when`.
        inputs: The columns it takes, in its order.
        rows: Real rows with these columns: those of training. They prove the conversion and
            become the reference that monitors compare with.
        label: Column of 0 and 1 in the held-out rows; rows where it is null are left out.
        calibrate_on: Later rows that training did not see: the calibration map is fitted and the
            scores are profiled on them.
        holdout: Instead of `calibrate_on`, the position in `rows` where these begin.
        name: Of the model; the endpoint's, or the pipeline's, if not given.
        blobs: Where the folder goes, outside a run only.

    Raises:
        Refused: There is neither a run nor `blobs`.
        Unconvertible: The model does not convert, or its graph disagrees with it on the rows.
        SchemaMismatch: A column is missing, or of a type no request can bring.
        InvalidInput: There are no rows, or the held-out ones carry no label.
    """
    place = _place(blobs, name)
    if holdout is not None and calibrate_on is None:
        rows, calibrate_on = _split(rows, holdout)
    columns = columns_of(rows, inputs)
    real = served_rows(rows, columns)
    if not real.height:
        raise InvalidInput(f"model {place.name!r}: found no rows; give those it was trained on")
    extra: dict[str, bytes] = {}
    if isinstance(model, InferenceGraph):
        graph, record = merged_of(model, columns, real)
        extra[PARTS] = canonical(record)
    else:
        graph = graph_of(model, columns, real)
    # With held-out rows the training rows' scores only choose goldens: a spread sample will do.
    shown = real
    if calibrate_on is not None and real.height > SCORED_ROWS:
        shown = real[spread_over(real, columns, most=SCORED_ROWS)]
    scores = _scores(graph, columns, shown, place.name)
    held, calibration = scores, None
    if calibrate_on is not None:
        held = _scores(graph, columns, served_rows(calibrate_on, columns), place.name)
        calibration = _calibrated(calibrate_on, label, held, place.name)
    files = build_folder(
        onnx=graph,
        signature=Signature(columns),
        goldens=_goldens(graph, columns, shown, scores),
        profile=reference_of(real, columns, held),
        environment=place.environment,
        calibration=None if calibration is None else msgspec.to_builtins(calibration),
        extra=extra,
    )
    logged = LoggedModel(put_folder(place.blobs.put, files), place.blobs)
    if place.context is not None:
        _note(place.context, logged, name, files)
    return logged


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    blobs: "Blobs"
    environment: dict[str, Any]
    context: RunContext | None


def _place(blobs: "Blobs | None", name: str | None) -> _Place:
    context = current_run()
    if context is not None:
        chosen = checked_name(name or context.name, what="model")
        return _Place(chosen, context.blobs, context.environment, context)
    if blobs is None:
        raise Refused(
            "log_model: found no run around the call and no blobs, expected one of them, because "
            "a model folder is kept in blobs; start the pipeline as a run, or give blobs="
        )
    environment, _ = capture(Path.cwd())
    return _Place(checked_name(name or "model", what="model"), blobs, as_json(environment), None)


def _split(rows: pl.DataFrame, holdout: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    if not 0 < holdout < rows.height:
        raise InvalidInput(
            f"holdout: found {holdout} of {rows.height} rows, expected a position inside them; "
            "give where the rows begin that training did not see"
        )
    return rows.head(holdout), rows.tail(rows.height - holdout)


def _scores(
    graph: bytes, columns: Sequence[Column], rows: pl.DataFrame, name: str
) -> NDArray[np.float64]:
    scores = run(graph, columns, rows)
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise Unconvertible(
            f"model {name!r}: found {bad} of {scores.size} real rows with an output that is not "
            "finite, expected none; train it to answer every row, also with missing values"
        )
    return scores


def _calibrated(
    rows: pl.DataFrame, label: str | None, scores: NDArray[np.float64], name: str
) -> CalibrationMap:
    if label is None or label not in rows.columns:
        raise InvalidInput(
            f"model {name!r}: held-out rows without label column {label!r}; expected its name "
            "among the columns: give label="
        )
    known = rows[label].is_not_null().to_numpy()
    if not known.any():
        raise InvalidInput(
            f"model {name!r}: found no labelled row among {rows.height} held-out ones; hold out "
            "rows whose label is known"
        )
    truth = rows[label].cast(pl.Float64).fill_null(0).to_numpy()[known]
    return fit_calibration(truth, np.clip(scores[known], 0.0, 1.0))


def _goldens(
    graph: bytes, columns: Sequence[Column], rows: pl.DataFrame, scores: NDArray[np.float64]
) -> Goldens:
    """Take real rows from every part of the score's range, and some with missing values."""
    chosen = rows[spread_over(rows, columns, most=GOLDEN_ROWS, order=scores)]
    outputs = run(graph, columns, chosen)
    largest = float(np.abs(outputs).max())
    return Goldens(
        columns={
            column.name: chosen[column.name].to_list()
            if column.type == "str"
            else chosen[column.name].fill_nan(None).to_list()
            for column in columns
        },
        outputs=outputs.tolist(),
        tolerance=_TOLERANCE * max(1.0, largest),
    )


def _note(
    context: RunContext, logged: LoggedModel, name: str | None, files: Mapping[str, bytes]
) -> None:
    context.notes.models.append(ModelNote(name, logged.manifest))
    digests = logged.files().files
    folder = name or "model"
    context.notes.artifacts.extend(
        LoggedFile(f"{folder}/{path}", digests[path], len(content))
        for path, content in files.items()
    )
