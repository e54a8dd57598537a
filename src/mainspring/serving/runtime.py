"""A model version in memory, ready to score."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import Corrupt, Refused, Unconvertible
from mainspring.core.home import Home
from mainspring.core.ids import Digest
from mainspring.formats.model import (
    ONNX,
    Blob,
    Column,
    Goldens,
    Manifest,
    Signature,
    read_file,
    read_goldens,
    read_manifest,
    read_signature,
    verified,
)
from mainspring.serving.packing import packed
from mainspring.serving.salvage import ScoringFailed, score_rows
from mainspring.serving.vectors import Vectors, read

_PATH = re.compile(r"(?<!\w)/\S+")
_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class FrameColumn(Protocol):
    """A column of a data frame."""

    def to_list(self) -> list[Any]:
        """Give its values."""
        ...


class Frame(Protocol):
    """A data frame as far as scoring one needs it; Polars and pandas have this."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""
        ...

    def __getitem__(self, name: str, /) -> FrameColumn:
        """Give a column."""
        ...


class OnnxModel:
    """A loaded version. Thread-safe: the session may run in several threads at once."""

    def __init__(self, digest: Digest, signature: Signature, content: bytes) -> None:
        self.digest = digest
        self.signature = signature
        self._packed = packed(content)
        self._session = self._opened(content if self._packed is None else self._packed.content)
        self._inputs: list[tuple[str, str, int]] = [
            (value.name, value.type, len(value.shape))
            for value in self._session.get_inputs()
            if self._packed is None or value.name != self._packed.matrix
        ]
        self._outputs = [signature.output]
        self._check_signature()

    def _opened(self, content: bytes) -> Any:
        # Here, because the control process knows models and seldom scores with one.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One thread per worker: a second one never helped up to 128 rows.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime's errors share no root
            raise Corrupt(
                f"model {self.digest[:12]}: the graph does not load ({_line(error)}); log it again"
            ) from error

    @classmethod
    def load(cls, home: Home, project: str, digest: Digest) -> "OnnxModel":
        """Load a version by its manifest and replay its goldens, as a batch and one by one.

        Raises:
            NotFound, Corrupt: A file is gone, or its bytes are not those of its digest.
            Refused: The folder is opaque.
            Unconvertible: The goldens come out differently on this machine.
        """

        def blob(digest: Digest) -> Path:
            return home.blob(project, digest)

        manifest = read_manifest(blob, digest)
        if manifest.kind != "onnx":
            raise Refused(f"model {digest[:12]}: an opaque folder; convert it before serving it")
        _verify_files(blob, manifest)
        model = cls(digest, read_signature(blob, manifest), read_file(blob, manifest, ONNX))
        model._replay(read_goldens(blob, manifest))
        return model

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns it takes."""
        return self.signature.inputs

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns it takes."""
        return tuple(column.name for column in self.signature.inputs)

    def score(self, columns: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Score columns of any rows, as the gate does; NaN for a row that the graph fails on.

        Raises:
            SchemaMismatch: A column is missing or a value has another type.
        """
        count = len(next(iter(columns.values()), ()))
        subject = f"model {self.digest[:12]}"
        return score_rows(self, read(count, columns, self.columns, subject=subject)).values

    def score_frame(self, frame: Frame) -> NDArray[np.float64]:
        """Score a data frame that has the model's columns, and maybe others."""
        present = [name for name in self.inputs if name in frame.columns]
        return self.score({name: frame[name].to_list() for name in present})

    def run(self, vectors: Vectors, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Score rows (all by default): one float64 per row, which may be non-finite.

        Raises:
            ScoringFailed: The graph raised, or its output has another shape.
        """
        count = vectors.count if rows is None else len(rows)
        try:
            output = self._session.run(self._outputs, self._feed(vectors, rows))[0]
            scores = np.asarray(output, np.float64)
        except Exception as error:  # whatever a graph does must not reach its neighbours
            raise ScoringFailed(_line(error)) from error
        if scores.shape == (count, 1):
            scores = scores[:, 0]
        if scores.shape != (count,):
            raise ScoringFailed(f"output of shape {scores.shape}, expected ({count},)")
        return scores

    def _feed(self, vectors: Vectors, rows: NDArray[np.int64] | None) -> dict[str, Any]:
        feed = {}
        if self._packed is not None:
            matrix = vectors.matrix(self._packed.columns)
            feed[self._packed.matrix] = matrix if rows is None else matrix[rows]
            if not self._inputs:
                return feed
        narrow, wide = vectors.narrow(), vectors.wide
        for name, kind, rank in self._inputs:
            if kind == "tensor(float)":
                array = narrow[name]
            elif kind == "tensor(string)":
                array = vectors.objects(name)
            else:
                array = wide()[name].astype(_DTYPES[kind], copy=False)
            if rows is not None:
                array = array[rows]
            feed[name] = array if rank == 1 else array.reshape(-1, 1)
        return feed

    def _check_signature(self) -> None:
        declared = {column.name: column.type for column in self.signature.inputs}
        outputs = [value.name for value in self._session.get_outputs()]
        columns = () if self._packed is None else self._packed.columns
        wrong = [
            name
            for name, kind, _ in self._inputs
            if name not in declared
            or (kind == "tensor(string)") != (declared[name] == "str")
            or (kind != "tensor(string)" and kind not in _DTYPES)
        ]
        wrong += [name for name in columns if declared.get(name, "str") == "str"]
        if wrong or self.signature.output not in outputs:
            raise Corrupt(
                f"model {self.digest[:12]}: found inputs {self._inputs}, {columns} and outputs "
                f"{outputs}, the signature says {declared} and {self.signature.output!r}; log it "
                "again"
            )

    def _replay(self, goldens: Goldens) -> None:
        vectors = _golden_vectors(self.signature, goldens)
        expected = np.array(goldens.outputs, np.float64)
        try:
            batch = self.run(vectors)
            single = np.array([self.run(vectors, np.array([i]))[0] for i in range(len(expected))])
        except ScoringFailed as error:
            raise Unconvertible(
                f"model {self.digest[:12]}: a golden row failed ({error}); convert it again"
            ) from error
        for way, found in (("in a batch", batch), ("alone", single)):
            off = ~(np.abs(found - expected) <= goldens.tolerance)
            if off.any():
                i = int(np.argmax(off))
                raise Unconvertible(
                    f"model {self.digest[:12]}: golden row {i} {way} gives {found[i]!r}, expected "
                    f"{expected[i]!r} within {goldens.tolerance}; convert the model again with "
                    "the runtime that serves it"
                )


def _verify_files(blob: Blob, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        verified(blob, digest, name)


def _golden_vectors(signature: Signature, goldens: Goldens) -> Vectors:
    floats = [column.name for column in signature.inputs if column.type != "str"]
    table = [
        [float("nan") if value is None else float(value) for value in goldens.columns[name]]
        for name in floats
    ]
    strings = {
        column.name: [str(value) for value in goldens.columns[column.name]]
        for column in signature.inputs
        if column.type == "str"
    }
    count = len(goldens.outputs)
    return Vectors(count, floats, np.array(table, np.float64).reshape(-1, count), strings)


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # Callers read it: where the runtime was built is nobody's business.
    return _PATH.sub("...", lines[0])[:300] if lines else type(error).__name__
