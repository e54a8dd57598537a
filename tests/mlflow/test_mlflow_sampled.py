"""A sample of a long series is found by places, with the ends it was asked for."""

from typing import Any

import pytest
from mlflow_face import Face

from mainspring.tracking import metrics


@pytest.fixture
def run(face: Face) -> str:
    made = face.post("runs/create", {"experiment_id": "0", "start_time": 1}).json
    found = str(made["run"]["info"]["run_id"])
    for first in (0, 1000, 5000):
        points = [
            {"key": "loss", "value": step / 7, "timestamp": 1, "step": step}
            for step in range(first, first + 1000)
        ]
        assert face.post("runs/log-batch", {"run_id": found, "metrics": points}).status == 200
    return found


def sample(face: Face, run: str, **asked: Any) -> list[int]:
    path = "metrics/get-history-bulk-interval"
    answer = face.get(path, run_ids=[run], metric_key="loss", **asked)
    found = [point.get("step", 0) for point in answer.json.get("metrics", [])]
    assert found == sorted(found)
    return found


def test_a_long_series_is_sampled_evenly_with_both_ends(
    face: Face, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "LISTED_STEPS", 50)

    whole = sample(face, run, max_results=13)
    window = sample(face, run, max_results=11, start_step=100, end_step=1100)
    short = sample(face, run, max_results=100, start_step=500, end_step=520)

    # Where there is a gap, the next step that is there stands for the places in it.
    assert whole[0] == 0
    assert whole[-1] == 5999
    assert {500, 1000, 1500, 5000, 5499} <= set(whole)
    assert window == list(range(100, 1101, 100))
    assert short == list(range(500, 521))
    assert sample(face, run, start_step=3000, end_step=4000) == []


def test_a_listed_series_gives_every_step_when_there_is_room(face: Face, run: str) -> None:
    assert sample(face, run, max_results=2500, start_step=0, end_step=1999) == list(range(2000))
