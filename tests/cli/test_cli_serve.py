"""One model served with one command, and a file of rows scored by it."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import polars as pl
import pytest

COMMAND = str(Path(sys.executable).with_name("mainspring"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a graph with one matrix, and as a pickle, with rows beside them."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("models")
    table = np.random.default_rng(0).normal(size=(1200, 3))
    label = table[:, 0] + table[:, 1] > 0
    linear = LogisticRegression().fit(table, label)
    graph = to_onnx(linear, initial_types=[("X", FloatTensorType([None, 3]))])
    (folder / "linear.onnx").write_bytes(graph.SerializeToString())
    rows = pl.DataFrame(table, schema=["a", "b", "c"]).with_columns(key=pl.lit("k"))
    trees = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(
        rows.select("a", "b", "c").to_pandas(), label
    )
    joblib.dump(trees, folder / "trees.pkl")
    rows.write_parquet(folder / "rows.parquet")
    rows.head(1100).write_csv(folder / "rows.csv")
    return folder


@contextmanager
def served(*arguments: str, directory: Path) -> Iterator[Any]:
    process = subprocess.Popen(
        [COMMAND, "serve", *arguments, "--port", "0", "--json"],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
        assert process.wait(20) == 0


def run(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments], cwd=directory, capture_output=True, text=True, check=False
    )


def test_a_graph_is_served_and_asked_for_a_file(models: Path, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with served(str(models / "linear.onnx"), "--home", home, directory=tmp_path) as told:
        body = json.dumps({"instances": [[0.1, 0.1, 0.0]]}).encode()
        asked = urllib.request.Request(
            f"{told['url']}/v1/models/model:predict", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked) as answer:
            (score,) = json.loads(answer.read())["predictions"]
        with urllib.request.urlopen(f"{told['url']}/metrics") as answer:
            counted = answer.read().decode()

    assert told["columns"] == ["f0", "f1", "f2"]
    assert 0.5 < score < 1
    assert 'endpoint="model",version="1"' in counted
    assert any((tmp_path / "home" / "segments").iterdir())
    with served(str(models / "linear.onnx"), "--home", home, directory=tmp_path) as told:
        assert told["version"] == "1"
    sample = str(models / "rows.csv")
    again = ("--home", home, "--sample", sample, "--columns", "a,b,c")
    with served(str(models / "linear.onnx"), *again, directory=tmp_path) as told:
        assert told["version"] == "2"


def test_a_pickle_is_loaded_on_trust_and_scores_as_it_does_itself(
    models: Path, tmp_path: Path
) -> None:
    pickled = str(models / "trees.pkl")
    refused = run("serve", pickled, "--port", "0", directory=tmp_path)
    rows = pl.read_parquet(models / "rows.parquet")
    expected = joblib.load(pickled).predict_proba(rows.select("a", "b", "c").to_pandas())[:, 1]

    sample = ("--trust", "--sample", str(models / "rows.parquet"))
    with served(pickled, *sample, "--name", "trees", directory=tmp_path) as told:
        url = ("--url", told["url"], "--key", "key")
        file = str(models / "rows.parquet")
        outputs = [tmp_path / name for name in ("out.parquet", "out.csv", "out.jsonl")]
        said = [
            run("predict", "trees", file, "--output", str(one), *url, directory=tmp_path)
            for one in outputs
        ]
        here = run("predict", "trees", str(models / "rows.csv"), *url, directory=tmp_path)
        absent = run("predict", "other", file, *url, directory=tmp_path)
        lacking = run("predict", "trees", str(models / "few.csv"), *url, directory=tmp_path)

    assert (refused.returncode, "--trust" in refused.stderr) == (1, True)
    assert told["columns"] == ["a", "b", "c"]
    assert [one.returncode for one in said] == [0, 0, 0], said
    read = [pl.read_parquet(outputs[0]), pl.read_csv(outputs[1]), pl.read_ndjson(outputs[2])]
    for table in read:
        assert table.height == 1200
        assert np.abs(table["score"].to_numpy() - expected).max() < 1e-5
        assert table["prediction"].n_unique() == 1200
    assert here.stdout.splitlines()[0] == "a,b,c,key,score,version,arm,prediction"
    assert len(here.stdout.splitlines()) == 1101
    assert (absent.returncode, absent.stderr.startswith("not_found")) == (1, True)
    assert (lacking.returncode, "no such file" in lacking.stderr) == (1, True)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.onnx", None, "no such file"),
        ("broken.onnx", b"\x08\x01garbage", ""),
        ("model.txt", b"x", "expected .onnx"),
    ],
)
def test_what_is_no_model_is_refused(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    said = run("serve", name, "--port", "0", directory=tmp_path)

    assert said.returncode == 1
    assert told in said.stderr


def test_a_description_does_not_lead_out_of_its_folder(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    outside = models / "linear.onnx"
    for name in ("../elsewhere.onnx", str(outside)):
        (folder / "MLmodel").write_text(f"flavors: {{onnx: {{data: {name!r}}}}}", "utf-8")

        said = run("serve", "model", "--port", "0", directory=tmp_path)

        assert (said.returncode, "no file of it" in said.stderr) == (1, True)


def test_a_column_is_read_by_all_of_its_values_and_a_broken_file_is_named(
    models: Path, tmp_path: Path
) -> None:
    late = "a,b,c\n" + "1,1,1\n" * 500 + "1.5,1,1\n"
    (tmp_path / "late.csv").write_text(late, "utf-8")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    arguments = (str(models / "linear.onnx"), "--columns", "a,b,c")
    with served(*arguments, directory=tmp_path) as told:
        fine = run("predict", "model", "late.csv", "--url", told["url"], directory=tmp_path)
        broken = run("predict", "model", "broken.parquet", "--url", told["url"], directory=tmp_path)

    assert (fine.returncode, len(fine.stdout.splitlines())) == (0, 502)
    assert broken.returncode == 1
    assert broken.stderr.startswith("invalid_input: file 'broken.parquet'")
