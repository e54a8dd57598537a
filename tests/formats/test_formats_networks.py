"""PyTorch modules agree as graphs with a free batch, and their second file is folded in."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mainspring.core.errors import Unconvertible
from mainspring.formats.convert import to_onnx
from mainspring.formats.model import Column
from mainspring.formats.parity import run

COLUMNS = tuple(Column(name, "float") for name in ("distance", "wind", "hour"))


def rows_of(count: int = 1200) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {column.name: rng.normal(0, 1, count) for column in COLUMNS}


def library() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed")


def test_a_network_agrees_with_dropout_off_and_a_free_batch() -> None:
    torch, rows = library(), rows_of()
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1), torch.nn.Sigmoid()
    )

    graph = to_onnx(network, COLUMNS, rows)

    assert network.training
    matrix = torch.from_numpy(np.column_stack(list(rows.values()))).float()
    expected = network.eval()(matrix).detach().numpy().ravel()
    assert np.abs(run(graph, COLUMNS, rows) - expected).max() < 1e-5
    assert str(Path(torch.__file__).parent).encode() not in graph


@pytest.mark.filterwarnings("ignore")
def test_a_batch_fixed_by_the_export_is_freed_where_no_layer_depends_on_it() -> None:
    torch, rows = library(), rows_of()
    network = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Sigmoid()).eval()
    fixed = torch.onnx.export(network, (torch.zeros(1, 3),), dynamo=True, verbose=False)

    graph = to_onnx(fixed.model_proto, COLUMNS, rows)

    matrix = torch.from_numpy(np.column_stack(list(rows.values()))).float()
    expected = network(matrix).detach().numpy().ravel()
    assert np.abs(run(graph, COLUMNS, rows) - expected).max() < 1e-5


def test_a_network_that_takes_two_rows_only_is_refused() -> None:
    torch, rows = library(), rows_of()

    class Fixed(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, matrix: Any) -> Any:
            return matrix.reshape(2, 3).sum(1)

    with pytest.raises(Unconvertible, match=r"Fixed: .* any number of rows"):
        to_onnx(Fixed(), COLUMNS, rows)


def linear() -> onnx.ModelProto:
    weights = np.linspace(-1, 1, 3, dtype=np.float32).reshape(3, 1)
    node = onnx.helper.make_node("MatMul", ["X", "weights"], ["y"])
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8
    )


def test_weights_in_a_second_file_become_part_of_the_graph(tmp_path: Path) -> None:
    rows, whole = rows_of(), to_onnx(linear(), COLUMNS, rows_of())
    path = tmp_path / "model.onnx"
    onnx.save(
        linear(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )

    folded = to_onnx(path, COLUMNS, rows)

    (tmp_path / "model.onnx.data").unlink()
    assert folded == whole
    with pytest.raises(Unconvertible, match="weights lie in another file"):
        to_onnx(path.read_bytes(), COLUMNS, rows)
