"""`python -m mainspring.pipelines.adopt`: a model from a file becomes a version's folder.

A process of its own, because some files are code: a pickle runs what its author wrote. It is
started for one file, without the user's secrets, and only this process ever unpickles.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import yaml

from mainspring.core.errors import InvalidInput, MainspringError, NotFound, Refused
from mainspring.core.home import Home
from mainspring.core.ids import DEFAULT_PROJECT
from mainspring.pipelines.models import log_model
from mainspring.pipelines.row_files import reading, scanned
from mainspring.store.blobs import FolderBlobs

MADE_UP_ROWS = 64
PICKLES = (".pkl", ".pickle", ".joblib")
_FLAVORS = ("onnx", "lightgbm", "xgboost", "sklearn")
"""Of mlflow's model folders; the first that is there is taken."""
_STRING = onnx.TensorProto.STRING


def main() -> int:
    """Adopt one model and print its digest and columns, or the reason why not, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m mainspring.pipelines.adopt")
    parser.add_argument("model")
    parser.add_argument("--home", required=True)
    parser.add_argument("--name", default="model")
    parser.add_argument("--sample", type=Path)
    parser.add_argument("--columns", nargs="+", default=[])
    parser.add_argument("--trust", action="store_true")
    wanted = parser.parse_args()
    try:
        told = adopted(wanted)
    except MainspringError as error:
        print(json.dumps({"error": error.code, "told": str(error)}))
        return 1
    print(json.dumps(told))
    return 0


def adopted(wanted: argparse.Namespace) -> dict[str, Any]:
    """Load, convert, prove and store a model; gives its digest and columns."""
    path = Path(wanted.model)
    if not path.exists():
        raise NotFound(f"model {wanted.model!r}: no such file or folder")
    model, example = _loaded(path, trust=wanted.trust)
    sample = example if wanted.sample is None else _table(wanted.sample)
    names = wanted.columns or _names(model, sample)
    rows = _made_up(model, names) if sample is None else sample
    missing = [name for name in names if name not in rows.columns]
    if missing:
        raise InvalidInput(
            f"sample: column {missing[0]!r} is missing; found {', '.join(rows.columns)}; name the "
            "model's columns in its order with --columns"
        )
    blobs = FolderBlobs(Home(Path(wanted.home)).blobs(DEFAULT_PROJECT))
    logged = log_model(model, inputs=names, rows=rows, name=wanted.name, blobs=blobs)
    columns = [{"name": column.name, "type": column.type} for column in logged.signature().inputs]
    return {"digest": logged.manifest, "columns": columns, "made_up": sample is None}


def _loaded(path: Path, *, trust: bool) -> tuple[Any, pl.DataFrame | None]:
    """Give the model of a file or folder, with the rows that lie beside it."""
    if path.is_dir():
        return _of_folder(path, trust=trust)
    if path.suffix == ".onnx":
        return path, None
    if path.suffix in PICKLES:
        _check_trust(path, trust=trust)
        import joblib

        return joblib.load(path), None
    raise InvalidInput(
        f"model {path.name!r}: expected .onnx, {', '.join(PICKLES)} or a folder of mlflow's"
    )


def _of_folder(folder: Path, *, trust: bool) -> tuple[Any, pl.DataFrame | None]:
    description = folder / "MLmodel"
    if not description.is_file():
        raise NotFound(f"model {folder.name!r}: a folder without MLmodel; give that of mlflow's")
    found = yaml.safe_load(description.read_text("utf-8"))
    flavors = found.get("flavors", {})
    flavor = next((one for one in _FLAVORS if one in flavors), None)
    example = _example(folder, found.get("saved_input_example_info"))
    match flavor:
        case "onnx":
            return _inside(folder, flavors["onnx"]["data"]), example
        case "lightgbm" | "xgboost" | "sklearn":
            _check_trust(folder, trust=trust)
            return _load(flavor, folder), example
        case _:
            raise InvalidInput(
                f"model {folder.name!r}: found flavors {', '.join(flavors) or 'none'}, expected "
                f"one of {', '.join(_FLAVORS)}"
            )


def _load(flavor: str, folder: Path) -> Any:
    match flavor:
        case "lightgbm":
            from mlflow import lightgbm as loader
        case "xgboost":
            from mlflow import xgboost as loader
        case _:
            from mlflow import sklearn as loader
    return loader.load_model(str(folder))


def _check_trust(path: Path, *, trust: bool) -> None:
    if not trust:
        raise Refused(
            f"model {path.name!r}: loading it runs code that its author wrote; if you trust them, "
            "say so with --trust, or give an ONNX file"
        )


def _example(folder: Path, info: Any) -> pl.DataFrame | None:
    """Read the rows that mlflow keeps beside a model, if they are a table."""
    if not isinstance(info, dict) or info.get("type") != "dataframe":
        return None
    found = json.loads(_inside(folder, info["artifact_path"]).read_text("utf-8"))
    table = pl.DataFrame(found["data"], schema=found["columns"], orient="row")
    return table if table.height > 1 else pl.concat([table, table])


def _inside(folder: Path, name: object) -> Path:
    """Give a file that a description names: below its folder, wherever links lead."""
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise InvalidInput(
            f"model {folder.name!r}: MLmodel names {str(name)[:80]!r}, no file of it"
        )
    return path


def _table(path: Path) -> pl.DataFrame:
    with reading(path):
        return scanned(path).collect()


def _names(model: Any, sample: pl.DataFrame | None) -> list[str]:
    """Give the columns that a model takes, as it names them; else as the rows do."""
    if isinstance(model, Path):
        inputs = _inputs(model)
        if len(inputs) > 1 or (inputs and _width(inputs[0]) == 1):
            return [value.name for value in inputs]
        if sample is not None:
            return sample.columns
        return [f"f{i}" for i in range(_width(inputs[0]))]
    named = getattr(model, "feature_names_in_", None)
    if named is None:
        named = getattr(model, "feature_name_", None)
    if named is not None:
        return [str(one) for one in named]
    if sample is not None:
        return sample.columns
    width = getattr(model, "n_features_in_", None)
    if width is None:
        raise InvalidInput("model: says nothing of its columns; give rows with --sample")
    return [f"f{i}" for i in range(int(width))]


def _inputs(path: Path) -> list[Any]:
    graph = onnx.load(str(path), load_external_data=False).graph
    given = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in given]


def _width(value: Any) -> int:
    shape = value.type.tensor_type.shape.dim
    if len(shape) < 2:
        return 1
    if not shape[1].dim_value:
        raise InvalidInput(
            f"model: input {value.name!r} does not say how many columns it has; name them with "
            "--columns, or give rows with --sample"
        )
    return int(shape[1].dim_value)


def _made_up(model: Any, names: Sequence[str]) -> pl.DataFrame:
    """Make rows where there are none: they show that the graph runs, not that it is right."""
    source = np.random.default_rng(0)
    texts: set[str] = set()
    if isinstance(model, Path):
        texts = {v.name for v in _inputs(model) if v.type.tensor_type.elem_type == _STRING}
    return pl.DataFrame(
        {
            name: ["a", "b"] * (MADE_UP_ROWS // 2)
            if name in texts
            else source.normal(size=MADE_UP_ROWS)
            for name in names
        }
    )


if __name__ == "__main__":
    sys.exit(main())
