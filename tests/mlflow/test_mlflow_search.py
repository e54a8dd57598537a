"""Searches through the unmodified client: the whole grammar, every order, pages."""

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType
from mlflow.exceptions import MlflowException, RestException
from mlflow_face import Face

NAN, INF = float("nan"), float("inf")
RUNS: dict[str, dict[str, float]] = {
    "a": {"auc": 0.7, "val-loss": 1},
    "b": {"auc": 0.9, "val-loss": 2},
    "c": {"auc": NAN},
    "d": {"auc": -INF, "val-loss": -3},
    "e": {},
}


@pytest.fixture
def names(client: MlflowClient) -> dict[str, str]:
    """Run id -> name, of five runs that began one after the other."""
    made = {}
    for number, (name, metrics) in enumerate(RUNS.items()):
        run = client.create_run("0", start_time=1000 + number, run_name=name).info.run_id
        client.log_batch(run, metrics=[Metric(k, v, 1, 0) for k, v in metrics.items()])
        client.log_param(run, "depth", str(number))
        client.set_tag(run, "team", "Ops" if number % 2 else "dev_1")
        if number == 4:
            client.log_param(run, "only e", "yes")
            client.set_terminated(run, "FAILED", end_time=5000)
        made[run] = name
    return made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "edcba"),
        ("metrics.auc > 0.7", "b"),
        ("metrics.auc >= 0.7 and metric.auc < 0.9", "a"),
        ("metrics.auc != 0.7", "dcb"),
        ("metrics.auc <= -1e300", "d"),
        ("metrics.`val-loss` = 2", "b"),
        ('metrics."val-loss" = -3', "d"),
        ("params.depth = '3'", "d"),
        ("params.depth != '3'", "ecba"),
        ('parameters.depth = "3"', "d"),
        ("params.`only e` LIKE 'y%'", "e"),
        ("params.`only e` IS NULL", "dcba"),
        ("params.`only e` IS NOT NULL", "e"),
        ("tags.team = 'Ops'", "db"),
        ("tags.team LIKE 'ops'", ""),
        ("tags.team ILIKE 'oPS'", "db"),
        ("tag.team LIKE '%ev__'", "eca"),
        ("tags.team LIKE '*'", ""),
        ("tags.none IS NULL", "edcba"),
        ("tags.mlflow.runName = 'a'", "a"),
        ("run_name = 'a'", "a"),
        ("attributes.run_name != 'a'", "edcb"),
        ("attributes.`Run name` LIKE 'b'", "b"),
        ("attributes.status = 'FAILED'", "e"),
        ("status != 'failed'", "edcba"),
        ("attributes.start_time > 1002", "ed"),
        ("created <= 1001", "ba"),
        ("end_time = 5000", "e"),
        ("attributes.artifact_uri LIKE 'mlflow-artifacts:/0/%'", "edcba"),
        ("params.depth = '1' AND tags.team = 'Ops' and metrics.auc > 0", "b"),
        ("params.depth = 'it and that'", ""),
    ],
)
def test_a_filter_finds_what_it_says(names: dict[str, str], text: str, found: str) -> None:
    runs = mlflow.search_runs(["0"], text, output_format="list")

    assert "".join(names[run.info.run_id] for run in runs) == found


def test_runs_are_found_by_their_ids(names: dict[str, str]) -> None:
    ids = [run for run, name in names.items() if name in "ac"]

    for text, found in (
        (f"run_id = '{ids[0]}'", "a"),
        (f"attributes.run_id IN ('{ids[0]}', '{ids[1]}')", "ca"),
        (f"attributes.run_id NOT IN ('{ids[0]}','{ids[1]}')", "edb"),
    ):
        runs = mlflow.search_runs(["0"], text, output_format="list")
        assert "".join(names[run.info.run_id] for run in runs) == found, text


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("metrics.auc", "dabce"),
        ("metrics.auc ASC", "dabce"),
        ("metrics.auc DESC", "badce"),
        ("metrics.`val-loss` DESC", "badec"),
        ("params.depth DESC", "edcba"),
        ("params.`only e`", "edcba"),
        ("tags.team", "dbeca"),
        ("attributes.start_time ASC", "abcde"),
        ("start_time", "abcde"),
        ("run_name DESC", "edcba"),
        ("attributes.end_time DESC", "edcba"),
        ("status ASC", "edcba"),
    ],
)
def test_an_order_puts_what_has_no_value_last(
    names: dict[str, str], order: str, found: str
) -> None:
    runs = mlflow.search_runs(["0"], order_by=[order], output_format="list")

    assert "".join(names[run.info.run_id] for run in runs) == found


def test_pages_follow_each_other_and_their_token_holds_for_one_question(
    client: MlflowClient, names: dict[str, str]
) -> None:
    seen, token = "", None
    while True:
        page = client.search_runs(
            ["0"], max_results=2, page_token=token, order_by=["metrics.auc DESC"]
        )
        seen += "".join(names[run.info.run_id] for run in page)
        token = page.token
        if not token:
            break

    assert seen == "badce"
    token = client.search_runs(["0"], max_results=2).token
    for other in ({"filter_string": "metrics.auc > 0"}, {"order_by": ["run_name"]}):
        with pytest.raises(RestException, match="Invalid page token"):
            client.search_runs(["0"], page_token=token, **other)
    with pytest.raises(RestException, match="Invalid page token"):
        client.search_runs(["0"], page_token="bm9uZQ==")


@pytest.mark.parametrize(
    "text",
    [
        "metrics.auc > 'a'",
        "metrics.auc LIKE '1'",
        "metrics.auc",
        "metrics.auc > ",
        "metrics.auc > 1 or metrics.auc < 2",
        "(metrics.auc > 1)",
        "params.depth = 3",
        "params.depth > '3'",
        "params.depth = depth",
        "nothing.auc > 1",
        "nothing = 'x'",
        "lifecycle_stage = 'active'",
        "run_id IN ()",
        "run_id IN 'a'",
        "tags.a IN ('a')",
        "dataset.size = '1'",
        "tags.`` = 'a'",
        "tags.a = 'x' and",
        "tags.a = 'x'; DROP TABLE run_record",
        "tags.a LIKE '" + "%a" * 50 + "'",
        " and ".join(["metrics.a > 1"] * 10_000),
        "'" * 100_001,
    ],
)
def test_a_filter_that_cannot_be_read_is_told(face: Face, text: str) -> None:
    answered = face.post("runs/search", {"experiment_ids": ["0"], "filter": text})

    assert answered.told == (400, "INVALID_PARAMETER_VALUE"), answered.content
    assert len(answered.json["message"]) < 1000


@pytest.mark.parametrize("order", ["metrics.auc UP", "nothing.auc", "size", "", "dataset.name"])
def test_an_order_that_cannot_be_read_is_told(face: Face, order: str) -> None:
    answered = face.post("runs/search", {"experiment_ids": ["0"], "order_by": [order]})

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")


def test_experiments_are_made_found_renamed_deleted_and_restored(client: MlflowClient) -> None:
    first = client.create_experiment("first", tags={"team": "ops"})
    second = client.create_experiment("second")
    client.set_experiment_tag(second, "team", "dev")
    client.set_experiment_tag(second, "gone", "soon")
    client.delete_experiment_tag(second, "gone")
    client.rename_experiment(second, "Second")

    assert [e.name for e in client.search_experiments()] == ["Second", "first", "Default"]
    assert [e.name for e in client.search_experiments(filter_string="tags.team = 'ops'")] == [
        "first"
    ]
    assert [e.name for e in client.search_experiments(filter_string="name ILIKE 's%'")] == [
        "Second"
    ]
    ordered = client.search_experiments(order_by=["name ASC"])
    assert [e.name for e in ordered] == ["Default", "Second", "first"]
    assert client.get_experiment_by_name("none") is None
    with pytest.raises(RestException, match="already exists"):
        client.create_experiment("first")
    run = client.create_run(first).info.run_id
    client.delete_experiment(first)
    assert client.get_experiment(first).lifecycle_stage == "deleted"
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    with pytest.raises(RestException, match="already exists"):
        client.create_experiment("first")
    with pytest.raises(RestException, match="must be in the 'active' state"):
        client.create_run(first)
    deleted = client.search_experiments(ViewType.DELETED_ONLY)
    assert [e.name for e in deleted] == ["first"]
    client.restore_experiment(first)
    assert client.get_run(run).info.lifecycle_stage == "active"
    assert len(client.search_experiments(ViewType.ALL, max_results=2)) == 2
    with pytest.raises(MlflowException, match="max_results"):
        client.search_experiments(max_results=50_001)


def test_a_sampled_history_keeps_its_ends(face: Face, client: MlflowClient) -> None:
    runs = [client.create_run("0").info.run_id for _ in range(2)]
    for run in runs:
        client.log_batch(run, metrics=[Metric("m", i, i, i) for i in range(1000)])

    answered = face.get(
        "metrics/get-history-bulk-interval", run_ids=runs, metric_key="m", max_results=10
    ).json["metrics"]

    for run in runs:
        steps = [one["step"] for one in answered if one["run_id"] == run]
        assert (len(steps), steps[0], steps[-1]) == (10, 0, 999)
    window = face.get(
        "metrics/get-history-bulk-interval",
        run_ids=runs[0],
        metric_key="m",
        start_step=10,
        end_step=12,
    ).json["metrics"]
    assert [one["step"] for one in window] == [10, 11, 12]
    half = face.get(
        "metrics/get-history-bulk-interval", run_ids=runs[0], metric_key="m", start_step=1
    )
    assert half.told == (400, "INVALID_PARAMETER_VALUE")
    bulk = face.get("metrics/get-history-bulk", run_id=runs, metric_key="m").json["metrics"]
    assert len(bulk) == 2000
