"""The model folder: addressed by digest, verified when read, and loadable by mlflow's client."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from mainspring.core.errors import AlreadyExists, Corrupt, InvalidInput, NotFound
from mainspring.core.ids import Digest, canonical, digest_bytes
from mainspring.formats.convert import to_onnx
from mainspring.formats.model import (
    Column,
    Goldens,
    Manifest,
    Signature,
    materialise,
    read_calibration,
    read_environment,
    read_goldens,
    read_manifest,
    read_profile,
    read_signature,
)
from mainspring.formats.parity import run
from mainspring.formats.write import build_folder, put_folder

SIGNATURE = Signature((Column("origin", "str"), Column("wind", "float"), Column("hour", "int")))
GOLDENS = Goldens({"origin": ["JFK"], "wind": [float("nan")], "hour": [3]}, [0.5])


class Place:
    """A folder of blobs by digest."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, content: bytes) -> Digest:
        digest = digest_bytes(content)
        self(digest).write_bytes(content)
        return digest

    def __call__(self, digest: Digest) -> Path:
        return self.root / digest


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "blobs").mkdir()
    return Place(tmp_path / "blobs")


def folder(**more: Any) -> dict[str, bytes]:
    return build_folder(
        **{
            "onnx": b"graph",
            "signature": SIGNATURE,
            "goldens": GOLDENS,
            "profile": {"wind": {"count": [1, 2]}},
            "environment": {"python": "3"},
            **more,
        }
    )


def test_what_was_written_is_read_back(place: Place) -> None:
    digest = put_folder(place.put, folder(calibration={"x": [0.0, 1.0]}, extra={"a/b": b"c"}))

    manifest = read_manifest(place, digest)

    assert manifest.kind == "onnx"
    assert read_signature(place, manifest) == SIGNATURE
    assert read_goldens(place, manifest).columns["wind"] == [None]
    assert read_profile(place, manifest) == {"wind": {"count": [1, 2]}}
    assert read_calibration(place, manifest) == {"x": [0.0, 1.0]}
    assert read_environment(place, manifest) == {"python": "3"}
    assert manifest.files["a/b"] == digest_bytes(b"c")


def test_equal_folders_have_one_address_and_no_calibration_is_none(place: Place) -> None:
    first, second = put_folder(place.put, folder()), put_folder(place.put, folder())

    assert first == second
    assert read_calibration(place, read_manifest(place, first)) is None


def test_altered_and_missing_blobs_are_named(place: Place) -> None:
    manifest = read_manifest(place, put_folder(place.put, folder()))
    place(manifest.files["signature.json"]).write_bytes(b"{}")
    place(manifest.files["profile.json"]).unlink()

    with pytest.raises(Corrupt, match=r"signature\.json"):
        read_signature(place, manifest)
    with pytest.raises(NotFound, match=r"profile\.json"):
        read_profile(place, manifest)
    with pytest.raises(NotFound, match="no such blob"):
        read_manifest(place, Digest("0" * 64))


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a//b", "", ".", "a\\b", "./a"])
def test_a_path_out_of_the_folder_is_refused_when_writing_and_when_reading(
    place: Place, tmp_path: Path, name: str
) -> None:
    forged = place.put(canonical(Manifest({name: place.put(b"x")})))

    with pytest.raises(InvalidInput, match="relative path"):
        folder(extra={name: b"x"})
    with pytest.raises(InvalidInput, match="relative path"):
        materialise(place, forged, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blobs"]


def test_goldens_that_do_not_fit_the_signature_and_taken_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="goldens"):
        folder(goldens=Goldens({"origin": ["JFK"]}, [0.5]))
    with pytest.raises(InvalidInput, match="finite"):
        folder(goldens=Goldens(GOLDENS.columns, [float("nan")]))
    with pytest.raises(InvalidInput, match="rename"):
        folder(extra={"MLmodel": b""})


def trained() -> tuple[bytes, pd.DataFrame]:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "origin": rng.choice(["JFK", "LGA", ""], 400).astype(object),
            "wind": np.where(rng.random(400) < 0.1, np.nan, rng.normal(size=400)),
            "hour": rng.integers(0, 24, 400).astype(float),
        }
    )
    late = (rows["hour"] + 8 * (rows["origin"] == "LGA") > 14).astype(int)
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    table = ColumnTransformer([("t", encoder, ["origin"]), ("n", "passthrough", ["wind", "hour"])])
    trees = lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1)
    model = Pipeline([("c", table), ("trees", trees)]).fit(rows, late)
    return to_onnx(model, SIGNATURE.inputs, rows), rows


def laid_out(place: Place, target: Path, build: Callable[..., dict[str, bytes]] = folder) -> Any:
    graph, rows = trained()
    goldens = Goldens(
        {name: rows[name][:32].tolist() for name in rows.columns},
        run(graph, SIGNATURE.inputs, rows[:32]).tolist(),
    )
    digest = put_folder(place.put, build(onnx=graph, goldens=goldens))
    return materialise(place, digest, target), graph, rows


@pytest.mark.filterwarnings("default")
def test_mlflow_loads_the_folder_and_predicts_the_same(place: Place, tmp_path: Path) -> None:
    path, graph, rows = laid_out(place, tmp_path / "model")
    expected = run(graph, SIGNATURE.inputs, rows)

    model = mlflow.pyfunc.load_model(str(path))
    # mlflow hands pandas' own string arrays to the runtime, which takes objects only.
    found = model.predict(rows.astype({"origin": object}))

    np.testing.assert_allclose(found["probability"], expected, atol=1e-6)
    assert expected.std() > 0.1
    inputs = model.metadata.get_input_schema()
    assert [(i.name, i.type.name) for i in inputs] == [
        ("origin", "string"),
        ("wind", "double"),
        ("hour", "double"),
    ]


@pytest.mark.filterwarnings("default")
def test_mlflow_refuses_a_frame_without_a_column(place: Place, tmp_path: Path) -> None:
    path, _, rows = laid_out(place, tmp_path / "model")

    with pytest.raises(mlflow.exceptions.MlflowException, match="wind"):
        mlflow.pyfunc.load_model(str(path)).predict(rows.drop(columns="wind"))


@pytest.mark.filterwarnings("default")
def test_the_onnx_flavour_gives_the_graph(place: Place, tmp_path: Path) -> None:
    path, graph, _ = laid_out(place, tmp_path / "model")

    assert mlflow.onnx.load_model(str(path)) == onnx.load_from_string(graph)


def test_a_folder_is_laid_out_whole_or_not_at_all(place: Place, tmp_path: Path) -> None:
    digest = put_folder(place.put, folder())
    place(read_manifest(place, digest).files["model.onnx"]).write_bytes(b"altered")

    with pytest.raises(Corrupt):
        materialise(place, digest, tmp_path / "model")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blobs"]
    (tmp_path / "model").mkdir()
    with pytest.raises(AlreadyExists):
        materialise(place, digest, tmp_path / "model")
