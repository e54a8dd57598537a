"""Writing a model folder: every file as bytes, then all of them into blobs."""

import math
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal

import msgspec
import yaml

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Digest, canonical
from mainspring.formats.model import (
    CALIBRATION,
    ENVIRONMENT,
    GOLDENS,
    ML_MODEL,
    ONNX,
    PROFILE,
    SIGNATURE,
    Goldens,
    Manifest,
    Signature,
    checked_path,
)

_REQUIREMENTS = "requirements.txt"
_MLFLOW_TYPES = {"float": "double", "int": "double", "bool": "double", "str": "string"}


def build_folder(
    *,
    onnx: bytes,
    signature: Signature,
    goldens: Goldens,
    profile: Mapping[str, Any],
    environment: Mapping[str, Any],
    calibration: Mapping[str, Any] | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """Make the files of a model folder that mlflow's clients can load as well.

    Equal arguments give equal bytes.

    Args:
        onnx: The graph as `convert.to_onnx` gives it.
        signature: Its inputs in order, and its output.
        goldens: Rows and the outputs the graph gave for them.
        profile: Reference profile by column, plain JSON values.
        environment: Distributions, interpreter, hardware.
        calibration: Map of raw outputs to calibrated ones, plain JSON values.
        extra: More files by relative path; the names above are taken.

    Raises:
        InvalidInput: A path leaves the folder or is taken, or the goldens do not fit the signature.
    """
    _check_goldens(signature, goldens)
    files = {
        ML_MODEL: _ml_model(signature),
        ONNX: onnx,
        SIGNATURE: canonical(signature),
        GOLDENS: canonical(goldens),
        PROFILE: canonical(dict(profile)),
        ENVIRONMENT: canonical(dict(environment)),
        _REQUIREMENTS: _requirements(),
    }
    if calibration is not None:
        files[CALIBRATION] = canonical(dict(calibration))
    for name, content in (extra or {}).items():
        checked_path(name)
        if name in files or name == CALIBRATION:
            raise InvalidInput(f"file {name!r}: the model folder has one of its own; rename it")
        files[name] = content
    return files


def put_folder(
    put: Callable[[bytes], Digest],
    files: Mapping[str, bytes],
    *,
    kind: Literal["onnx", "opaque"] = "onnx",
) -> Digest:
    """Store every file, then the manifest that names them.

    Returns:
        The manifest's digest: the address of the version. Equal files give an equal address.
    """
    for name in files:
        checked_path(name)
    digests = {name: put(files[name]) for name in sorted(files)}
    return put(canonical(Manifest(files=digests, kind=kind)))


def _check_goldens(signature: Signature, goldens: Goldens) -> None:
    expected = {column.name for column in signature.inputs}
    rows = len(goldens.outputs)
    lengths = {len(values) for values in goldens.columns.values()}
    if set(goldens.columns) != expected or lengths != {rows} or not rows:
        raise InvalidInput(
            f"goldens: found columns {sorted(goldens.columns)} with {sorted(lengths)} rows and "
            f"{rows} outputs; expected columns {sorted(expected)}, one value per output"
        )
    wrong = [i for i, output in enumerate(goldens.outputs) if not math.isfinite(output)]
    if wrong:
        raise InvalidInput(
            f"goldens: the outputs of rows {wrong[:5]} are not finite; choose rows that the model "
            "can score"
        )


def _ml_model(signature: Signature) -> bytes:
    # float64 in mlflow's signature, because its client refuses doubles where it says float;
    # its onnx flavour casts them to what the graph takes.
    inputs = [
        {"type": _MLFLOW_TYPES[column.type], "name": column.name, "required": True}
        for column in signature.inputs
    ]
    outputs = [{"type": "double", "name": signature.output, "required": True}]
    document = {
        "flavors": {
            "onnx": {
                "code": None,
                "data": ONNX,
                "onnx_version": version("onnx"),
                "onnx_session_options": {"intra_op_num_threads": 1, "inter_op_num_threads": 1},
                "providers": ["CPUExecutionProvider"],
            },
            "python_function": {
                "data": ONNX,
                "loader_module": "mlflow.onnx",
                "python_version": _python_version(),
            },
        },
        "signature": {
            "inputs": msgspec.json.encode(inputs).decode(),
            "outputs": msgspec.json.encode(outputs).decode(),
            "params": None,
        },
    }
    return yaml.safe_dump(document, sort_keys=True).encode()


def _python_version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])


def _requirements() -> bytes:
    return f"numpy=={version('numpy')}\nonnxruntime=={version('onnxruntime')}\n".encode()
