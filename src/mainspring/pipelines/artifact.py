"""Outputs of steps as blobs: deterministic bytes in, an equal value out."""

import io
import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import polars as pl

from mainspring.core.clock import utc
from mainspring.core.errors import Corrupt, InvalidInput, NotFound
from mainspring.core.ids import Digest, canonical, digest_of
from mainspring.pipelines.context import Logged
from mainspring.pipelines.logged_model import LoggedModel, folder_digests

if TYPE_CHECKING:
    from mainspring.store.blobs import Blobs

Kind = Literal["frame", "array", "bytes", "onnx", "json", "model"]

_ROW_GROUP = 131_072


class Artifact(msgspec.Struct, frozen=True):
    """One output of a step: what it is and the blob that holds it (a model: its manifest)."""

    kind: Kind
    digest: Digest
    size_bytes: int

    @property
    def identity(self) -> Digest:
        """What a later step's key takes of it: equal bytes of another kind are another input."""
        return digest_of([self.kind, self.digest])


class StepOutputs(msgspec.Struct, frozen=True):
    """What one step gave and logged, kept under its key."""

    results: dict[str, Artifact]
    logged: Logged


def stored(value: Any, blobs: "Blobs", *, subject: str) -> Artifact:
    """Put a value into blobs.

    Raises:
        InvalidInput: There is no encoding for it that gives an equal value back.
    """
    if isinstance(value, LoggedModel):
        return Artifact("model", value.manifest, 0)
    kind, content = _encoded(value, subject)
    return Artifact(kind, blobs.put(content), len(content))


def loaded(artifact: Artifact, blobs: "Blobs") -> Any:
    """Give the value back.

    Raises:
        Corrupt: The blob does not have its digest. NotFound: It is gone.
    """
    if artifact.kind == "model":
        return LoggedModel(artifact.digest, blobs)
    content = blobs.get(artifact.digest)
    match artifact.kind:
        case "frame":
            return pl.read_parquet(io.BytesIO(content))
        case "array":
            return np.load(io.BytesIO(content), allow_pickle=False)
        case "onnx":
            import onnx

            return onnx.load_from_string(content)
        case "json":
            return _from_json(msgspec.json.decode(content))
        case "bytes":
            return content


def intact(artifact: Artifact, blobs: "Blobs") -> bool:
    """Tell whether an output can still be read; damaged bytes are removed so that a repeat heals.

    A store keeps what it believes to have, so damage must go before the step puts it again.
    """
    digests = [artifact.digest]
    while digests:
        digest = digests.pop()
        try:
            blobs.get(digest)
            if artifact.kind == "model" and digest == artifact.digest:
                digests += folder_digests(digest, blobs)
        except NotFound:
            return False
        except Corrupt:
            blobs.delete(digest)
            return False
    return True


def _encoded(value: Any, subject: str) -> tuple[Kind, bytes]:
    match value:
        case pl.LazyFrame():
            return "frame", _parquet(value.collect())
        case pl.DataFrame():
            return "frame", _parquet(value)
        case np.ndarray() if not value.dtype.hasobject:
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(value), allow_pickle=False)
            return "array", buffer.getvalue()
        case bytes():
            return "bytes", value
        case _ if type(value).__module__.startswith("onnx.") and hasattr(value, "graph"):
            return "onnx", value.SerializeToString(deterministic=True)
        case _:
            return "json", canonical(_to_json(value, subject))


def _parquet(frame: pl.DataFrame) -> bytes:
    # Every setting is fixed and the chunks are made one: equal frames must give equal bytes.
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(
        buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=_ROW_GROUP
    )
    return buffer.getvalue()


def _to_json(value: Any, subject: str) -> Any:
    """Encode plain values; what JSON would change (NaN, tuples, times) is tagged."""
    match value:
        case None | bool():
            return value
        case _ if type(value) in (int, str):
            return value
        case _ if type(value) is float:
            return value if math.isfinite(value) else {"$": "float", "v": repr(value)}
        case datetime() if value.tzinfo is not None:
            return {"$": "instant", "v": utc(value).isoformat()}
        case _ if type(value) is list:
            return [_to_json(item, subject) for item in value]
        case _ if type(value) is tuple:
            return {"$": "tuple", "v": [_to_json(item, subject) for item in value]}
        case _ if type(value) is dict:
            # As pairs, because the canonical text sorts keys and a dict has an order.
            pairs = [[_to_json(k, subject), _to_json(v, subject)] for k, v in value.items()]
            return {"$": "dict", "v": pairs}
        case np.generic():
            return _to_json(value.item(), subject)
        case _:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise InvalidInput(
                f"{subject}: found an output of type {kind}, expected a Polars frame, array, "
                "bytes, ONNX model, LoggedModel, or numbers, texts, aware times, lists and dicts "
                "of these; log a trained model inside the step with log_model and return that"
            )


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value["$"]:
        case "float":
            return float(value["v"])
        case "instant":
            return datetime.fromisoformat(value["v"])
        case "tuple":
            return tuple(_from_json(item) for item in value["v"])
        case _:
            return {_from_json(k): _from_json(v) for k, v in value["v"]}
