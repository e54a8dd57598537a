"""Searches among many runs give what a plain one gives, and never read what they need not."""

import itertools
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mlflow_face import Face
from sqlalchemy import event

from mainspring.store.database import Database
from mainspring.tracking import run_search

RUNS = 60


@pytest.fixture
def many(face: Face) -> Face:
    """Runs in three experiments; some lack a metric, a parameter or a tag, one has a NaN."""
    source = random.Random(3)
    for name in ("one", "two"):
        face.post("experiments/create", {"name": name})
    for number in range(RUNS):
        experiment = str(number % 3)
        made = face.post(
            "runs/create",
            {
                "experiment_id": experiment,
                "start_time": 1000 + number // 2,
                "run_name": f"r{number}",
            },
        )
        run = made.json["run"]["info"]["run_id"]
        metrics = [
            {"key": key, "value": "NaN" if number == 7 else source.randrange(9), "timestamp": 1}
            for key in ("a", "b")
            if number % 5
        ]
        long = "x" * 150 + str(number % 4)
        params = [{"key": "p", "value": long}] if number % 4 else []
        tags = [{"key": "team", "value": f"t{number % 6}"}] if number % 7 else []
        face.post(
            "runs/log-batch", {"run_id": run, "metrics": metrics, "params": params, "tags": tags}
        )
    return face


FILTERS = [
    "",
    "tags.team = 't3'",
    "tags.team != 't3'",
    "tags.team LIKE 't%' AND params.p != 'none'",
    f"params.p = '{'x' * 150}2'",
    "params.p IS NULL",
    "metrics.a > 3",
    "metrics.a != 3 AND tags.team IS NOT NULL",
    "attributes.run_name = 'r5'",
    "tags.`mlflow.runName` LIKE 'r1%'",
    "metrics.b <= 4 AND metrics.a >= 1 AND tags.team != 't0'",
]
ORDERS: list[list[str]] = [
    [],
    ["metrics.a DESC"],
    ["metrics.a ASC", "params.p DESC"],
    ["params.p ASC"],
    ["params.p DESC", "metrics.b ASC"],
    ["tags.team DESC"],
    ["attributes.start_time ASC"],
    ["attributes.start_time DESC", "metrics.b ASC"],
    ["attributes.run_name ASC"],
]


def found(face: Face, text: str, orders: list[str], size: int, experiments: list[str]) -> list[str]:
    """All pages, as names in order."""
    names: list[str] = []
    token = ""
    while True:
        body: dict[str, Any] = {
            "experiment_ids": experiments,
            "filter": text,
            "order_by": orders,
            "max_results": size,
        }
        answer = face.post("runs/search", {**body, **({"page_token": token} if token else {})})
        assert answer.status == 200, answer.json
        names += [run["info"]["run_name"] for run in answer.json.get("runs", [])]
        token = answer.json.get("next_page_token", "")
        if not token:
            return names


def test_what_is_read_in_order_is_what_sorting_gives(
    many: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = list(itertools.product(FILTERS, ORDERS))
    sorted_first = [found(many, text, orders, 100, ["0", "1", "2"]) for text, orders in cases]
    monkeypatch.setattr(run_search, "RARE", 2)
    monkeypatch.setattr(run_search, "COUNTED", 30)

    by_guess = [found(many, text, orders, 7, ["0", "1", "2"]) for text, orders in cases]
    monkeypatch.setattr(run_search, "COUNTED", 2)
    in_order = [found(many, text, orders, 100, ["0", "1", "2"]) for text, orders in cases]
    in_pages = [found(many, text, orders, 7, ["0", "1", "2"]) for text, orders in cases]
    two = [found(many, text, orders, 7, ["2", "0"]) for text, orders in cases]

    assert by_guess == sorted_first
    assert in_order == sorted_first
    assert in_pages == sorted_first
    kept = {f"r{number}" for number in range(RUNS) if number % 3 != 1}
    assert two == [[name for name in names if name in kept] for names in sorted_first]


@contextmanager
def plans(database: Database) -> Iterator[list[str]]:
    """Note how each question of a reader is answered."""
    noted: list[str] = []

    def note(connection: Any, _: Any, statement: str, parameters: Any, *_more: Any) -> None:
        raw = connection.connection.dbapi_connection
        rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        noted.extend(row[3] for row in rows)

    reader = database._file.reader
    event.listen(reader, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(reader, "before_cursor_execute", note)


@pytest.mark.parametrize("rare", [2, 10_000])
def test_no_search_reads_a_whole_table(
    many: Face, monkeypatch: pytest.MonkeyPatch, rare: int
) -> None:
    monkeypatch.setattr(run_search, "RARE", rare)
    # What is counted up to a bound is no table.
    whole = re.compile(r"SCAN (?!anon_)|(metric_by_value|_by_head|_record_1) \(project=\?\)")

    for text, orders in itertools.product(["", *FILTERS[1:9:2]], ORDERS[:-1]):
        with plans(many.platform.database) as noted:
            found(many, text, orders, 30, ["0", "1", "2"])

        assert noted
        assert not [plan for plan in noted if whole.search(plan)], (text, orders)
