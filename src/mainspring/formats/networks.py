"""PyTorch modules: their own answers, and the graph of their layers.

The exporter fixes the batch at the size of its example unless told otherwise, and writes weights
into a second file unless the model is taken from memory; both are settled here.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

_OPSET = 18


def is_network(model: Any) -> bool:
    """Tell a PyTorch module, without loading PyTorch."""
    return any(
        kind.__module__.startswith("torch.nn.") and kind.__name__ == "Module"
        for kind in type(model).__mro__
    )


def answers(model: Any, matrix: NDArray[np.float64]) -> Any:
    """Ask the module itself, as it answers when it is not trained."""
    import torch

    with torch.no_grad(), _answering(model):
        found = model(torch.from_numpy(matrix).to(_kind(model)))
    return found.cpu().numpy()


def graph(model: Any, width: int) -> onnx.ModelProto:
    """Export to a graph of one matrix (rows, width) with free rows, weights inside.

    What the author's files are called and where they lie is not carried along.
    """
    import torch

    # Two rows, because an example of one row is taken for a constant.
    example = torch.zeros(2, width, dtype=_kind(model))
    with _answering(model), _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    body: onnx.ModelProto = program.model_proto
    return body


def _kind(model: Any) -> Any:
    import torch

    return next((weights.dtype for weights in model.parameters()), torch.float32)


@contextmanager
def _answering(model: Any) -> Iterator[None]:
    """Switch dropout and batch statistics off, and back to what they were afterwards."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    # It warns of libraries that are not there and of its own deprecated calls.
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
