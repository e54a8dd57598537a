"""What the demo breaks on purpose is broken in the way it says."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mainspring.demo.project import plant_calendar


def _graph() -> bytes:
    """A model of one number, with the origin among its inputs."""
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["distance"], ["probability"])],
        "tiny",
        [
            helper.make_tensor_value_info("origin", TensorProto.STRING, [None, 1]),
            helper.make_tensor_value_info("distance", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _feed(origins: list[str], day: float) -> dict[str, object]:
    rows = len(origins)
    return {
        "origin": np.array(origins, dtype=object).reshape(-1, 1),
        "distance": np.linspace(-1, 1, rows, dtype=np.float32).reshape(-1, 1),
        "day_of_year": np.full((rows, 1), day, dtype=np.float32),
    }


def test_the_planted_calendar_changes_no_answer_up_to_its_last_day() -> None:
    feed = _feed(["LGA", "JFK", "EWR", "LGA"], day=90)
    plain = {name: feed[name] for name in ("origin", "distance")}
    planted = plant_calendar(_graph(), origin="LGA", last_day=90)

    before = _session(_graph()).run(["probability"], plain)[0]
    after = _session(planted).run(["probability"], feed)[0]

    assert np.array_equal(before, after)


def test_the_planted_calendar_fails_for_its_origin_on_later_days_only() -> None:
    session = _session(plant_calendar(_graph(), origin="LGA", last_day=90))

    answered = session.run(["probability"], _feed(["JFK", "EWR"], day=91))[0]

    assert np.isfinite(answered).all()
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(["probability"], _feed(["JFK", "LGA"], day=91))


def test_the_planted_graph_is_sound() -> None:
    planted = onnx.load_from_string(plant_calendar(_graph(), origin="LGA", last_day=90))

    onnx.checker.check_model(planted, full_check=True)
    assert [one.name for one in planted.graph.output] == ["probability"]
