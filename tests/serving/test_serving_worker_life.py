"""Worker processes: started, killed, drained, swapped, shared, and what is left behind."""

import http.client
import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.serving.serving_process import (
    Json,
    Workers,
    flight,
    pss_mib,
    received,
    wait_until,
)
from tests.serving.serving_world import World, canary, constant, failing_at, live, slow

from mainspring.core.config import Config
from mainspring.formats.routes import RouteTable, publish
from mainspring.formats.segment import read_blocks, segments
from mainspring.formats.worker import WorkerState, alive, read_states

NOT_IN_A_WORKER = {
    "polars", "sqlalchemy", "starlette", "scipy", "onnx", "pandas", "deltalake", "uvicorn",
    "jinja2", "prometheus_client", "fastapi", "sklearn", "yaml", "requests",
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    return world


@pytest.fixture
def workers(world: World) -> Iterator[Workers]:
    found = Workers(world.home, Config(segment_sync_s=0.2, drain_s=5.0))
    yield found
    found.close()


def state(workers: Workers, worker: str = "w1") -> WorkerState:
    return next(one for one in read_states(workers.home) if one.worker == worker)


class Load:
    """Clients that each ask one after the other, and ask again under the same id when cut off."""

    def __init__(self, workers: Workers, *, clients: int) -> None:
        self.workers = workers
        self.answers: dict[str, Json] = {}
        self.refused: list[tuple[int, bytes]] = []
        self.repeats = 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(i,)) for i in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(20)

    def ask(self, client: int) -> None:
        number, connection = 0, self.connection()
        while not self.ending.is_set():
            name = f"{client}-{number}"
            body = json.dumps({**flight(), "id": name}).encode()
            try:
                connection.request("POST", "/v2/models/delay/infer", body)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self.repeats += 1
                connection.close()
                connection = self.connection()
                continue
            if answer.status == 200:
                self.answers[name] = json.loads(content)
            else:
                self.refused.append((answer.status, content))
            number += 1
        connection.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.workers.port, timeout=10)

    def reach(self, count: int) -> None:
        target = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= target)


def post_head(body: bytes) -> bytes:
    lines = ["POST /v2/models/delay/infer HTTP/1.1", "Host: localhost"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()


def recorded(world: World) -> Counter[str]:
    return Counter(block.prediction for block in world.blocks() if block.kind == "answer")


def test_a_worker_tells_what_it_serves_and_has_counted(workers: Workers) -> None:
    child = workers.start()

    first = state(workers)
    workers.infer(flight())
    workers.infer({"inputs": []})
    wait_until(lambda: state(workers).requests == 2)

    found = state(workers)
    assert (first.pid, first.routes, first.ready) == (child.process.pid, 1, True)
    assert (found.rows, found.refused, found.failures) == (1, 1, 0)
    assert found.by_version == {"default/delay/1/live": 1}
    assert found.latency["default/delay"].seconds > 0
    assert alive(found)


def test_a_worker_loads_no_library_of_the_control_plane_and_stays_small(
    workers: Workers,
) -> None:
    program = "import mainspring.serving.__main__, sys; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = {name.split(".")[0] for name in answer.stdout.decode().split()}

    child = workers.start()
    workers.infer(flight())

    assert {"numpy", "uvloop", "httptools"} < loaded
    assert not loaded & NOT_IN_A_WORKER
    assert pss_mib(child.process.pid) < 80


def test_a_home_without_routes_is_served_from_the_first_table_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    workers = Workers(world.home)
    try:
        workers.start()
        assert workers.ask("GET", "/ready")[0] == 200
        assert workers.infer(flight())[0] == 404

        publish(world.home.routes, RouteTable(0, ()))
        assert workers.ask("GET", "/ready")[0] == 200
        world.publish(7, live(world.model(constant(0.5))))

        assert workers.infer(flight())[0] == 200
        assert state(workers).routes == 7
    finally:
        workers.close()


def test_a_new_table_is_taken_over_without_a_request(world: World, workers: Workers) -> None:
    workers.start()

    world.publish(2, live(world.model(constant(0.75), golden=0.75), version="2"))

    wait_until(lambda: state(workers).routes == 2)
    assert workers.infer(flight())[1]["model_version"] == "2"


def test_a_table_that_cannot_be_served_is_told(world: World, workers: Workers) -> None:
    workers.start()

    world.publish(2, live(world.model(constant(0.5), golden=0.9), version="2"))

    wait_until(lambda: state(workers).routes == 2)
    found = state(workers)
    assert found.ready
    assert "default/delay: model" in found.problems[0]
    assert workers.infer(flight())[1]["model_version"] == "1"


def test_a_repeat_after_a_kill_gets_its_first_answer(world: World, workers: Workers) -> None:
    child = workers.start()
    body = json.dumps({**flight(), "id": "again"}).encode()
    with workers.raw() as sock:
        sock.sendall(post_head(body) + body)
        # The answer is on the log; nobody reads it.
        wait_until(world.blocks)
    child.kill()
    workers.start()

    status, answer = workers.infer({**flight(), "id": "again"})
    other = workers.infer({**flight("LGA"), "id": "again"})

    (block,) = world.blocks()
    assert (status, answer["parameters"]["prediction_id"]) == (200, block.prediction)
    assert answer["outputs"][0]["data"] == [0.5]
    assert (other[0], "other rows" in other[1]["error"]) == (400, True)


def test_a_worker_of_another_name_does_not_remember(world: World, workers: Workers) -> None:
    workers.start("w1").kill()
    workers.start("w1")
    first = workers.infer({**flight(), "id": "r"})[1]["parameters"]["prediction_id"]
    workers.children[-1].kill()
    workers.start("w2")

    second = workers.infer({**flight(), "id": "r"})[1]["parameters"]["prediction_id"]

    assert first != second
    assert {block.request for block in world.blocks()} == {"r"}


def test_a_killed_worker_loses_no_answer_and_its_clients_go_on(
    world: World, workers: Workers
) -> None:
    victim = workers.start("w1")
    workers.start("w2")

    with Load(workers, clients=8) as load:
        wait_until(lambda: all(s.requests > 20 for s in read_states(workers.home)), seconds=15)
        victim.kill()
        load.reach(200)
        workers.start("w1")
        load.reach(200)

    logged, answered = recorded(world), load.answers.values()
    assert not load.refused
    assert all(logged[answer["parameters"]["prediction_id"]] == 1 for answer in answered)
    assert set(logged.values()) == {1}
    # What was recorded and never heard of is what the kill cut off, at most one a client.
    assert 0 <= len(logged) - len(answered) <= 8
    assert load.repeats >= 1


def test_a_drain_under_load_loses_nothing(world: World, workers: Workers) -> None:
    leaving = workers.start("w1")
    workers.start("w2")

    with Load(workers, clients=8) as load:
        wait_until(lambda: all(s.requests > 20 for s in read_states(workers.home)), seconds=15)
        code = leaving.drain()
        load.reach(100)

    logged = recorded(world)
    assert code == 0
    assert not load.refused
    assert load.repeats == 0
    assert len(logged) == len(load.answers)
    assert {a["parameters"]["prediction_id"] for a in load.answers.values()} == set(logged)
    assert [one.worker for one in read_states(workers.home)] == ["w2"]


def test_a_drain_finishes_what_is_begun_and_takes_no_new_connection(
    world: World, workers: Workers
) -> None:
    child = workers.start()
    body = json.dumps(flight()).encode()
    with workers.raw() as begun, workers.raw() as idle:
        begun.sendall(post_head(body) + body[:10])
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received(idle, upto=b"OK")
        wait_until(lambda: state(workers).in_flight == 1)
        child.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not state(workers).ready)
        with workers.raw() as late:
            begun.sendall(body[10:])
            answer = received(begun)
            assert received(idle) == b""
            assert child.process.wait(10) == 0
            # The connection waits in the shared queue for whoever serves next.
            workers.start()
            late.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"OK" in received(late, upto=b"OK")

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
    assert len(world.blocks()) == 1


def test_a_drain_scores_the_shadows_that_wait(world: World, workers: Workers) -> None:
    shadow = world.model(constant(0.25), golden=0.25)
    world.publish(2, canary(shadow, 0.0), live(world.model(constant(0.5))))
    table = world.home.routes.read_text("utf-8").replace('"canary"', '"shadow"')
    world.home.routes.write_text(table.replace('"number":2', '"number":3'), "utf-8")
    child = workers.start()
    for _ in range(5):
        workers.infer(flight())

    assert child.drain() == 0
    assert Counter(block.kind for block in world.blocks()) == {"answer": 5, "shadow": 5}


def test_a_worker_ends_when_its_supervisor_is_gone(workers: Workers) -> None:
    child = workers.start()

    with workers.raw() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        child.wire.close()

        assert child.process.wait(5) == 0


def test_each_answer_comes_from_the_table_in_force(world: World, workers: Workers) -> None:
    workers.start("w1")
    workers.start("w2")
    models = [world.model(constant(0.25 * i), golden=0.25 * i) for i in (1, 2, 3)]
    newest = 1
    seen: list[tuple[int, int, Json]] = []
    ending = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=10)
        while not ending.is_set():
            before = newest
            connection.request("POST", "/v2/models/delay/infer", json.dumps(flight()).encode())
            answer = json.loads(connection.getresponse().read())
            seen.append((before, newest, answer))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for number in range(2, 14):
        model = models[number % 3]
        world.publish(number, live(model, version=str(number)))
        while not all(state(workers, worker).routes == number for worker in ("w1", "w2")):
            time.sleep(0.005)
        newest = number
        time.sleep(0.03)
    ending.set()
    for thread in threads:
        thread.join(20)

    tables = {block.prediction: block.routes for block in world.blocks()}
    assert len(seen) > 100
    for before, after, answer in seen:
        number = int(answer["model_version"])
        # A table that the workers told by the time of asking is never ignored; one more may be
        # under way.
        assert before <= number <= after + 1
        assert tables[answer["parameters"]["prediction_id"]] == number
        score = 0.5 if number == 1 else 0.25 * (1, 2, 3)[number % 3]
        assert answer["outputs"][0]["data"] == [score]


def test_loading_a_model_holds_up_no_answer(world: World, workers: Workers) -> None:
    workers.start()
    # Its goldens, which are replayed as it loads, take long.
    world.publish(2, live(world.model(slow(0.5)), version="2"))
    versions = set()
    asked = 0
    while state(workers).routes < 2 and asked < 100_000:
        status, answer = workers.infer(flight())
        assert status == 200
        versions.add(answer["model_version"])
        asked += 1
    # One look more than the worker needs to see that there is news.
    assert asked > 5
    assert "1" in versions
    assert workers.infer(flight())[1]["model_version"] == "2"


def test_routes_swap_a_hundred_times_under_load(world: World, workers: Workers) -> None:
    child = workers.start()
    models = [world.model(constant(0.25 * i), golden=0.25 * i) for i in range(8)]
    load = Load(workers, clients=4)
    world.publish(2, live(models[0], version="2"))
    with load:
        for number in range(3, 103):
            world.publish(number, live(models[number % 8], version=str(number)))
            if number % 10 == 0:
                while state(workers).routes < number:
                    time.sleep(0.005)
            if number == 30:
                memory_mib = pss_mib(child.process.pid)
    assert not load.refused
    assert pss_mib(child.process.pid) - memory_mib < 20
    assert state(workers).models == 1


def test_a_full_disk_stops_no_answer_and_is_told(world: World, workers: Workers) -> None:
    child = workers.start()
    for _ in range(40):
        workers.infer(flight())
    size = next(world.home.segments.iterdir()).stat().st_size

    def limit(size_bytes: int) -> None:
        resource.prlimit(
            child.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY)
        )

    limit(size + 10)
    assert [workers.infer(flight())[0] for _ in range(3)] == [200] * 3
    wait_until(lambda: state(workers).left_out == 3)
    full = state(workers)
    metrics = workers.ask("GET", "/metrics")[2].decode()
    limit(resource.RLIM_INFINITY)
    workers.infer(flight())
    wait_until(lambda: not state(workers).problems)

    assert any("3 rows are not recorded" in problem for problem in full.problems)
    assert 'mainspring_inference_left_out_rows_total{worker="w1"} 3' in metrics
    assert [block.missing_before for block in world.blocks()][-2:] == [0, 3]


def scraped(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_are_of_all_workers_whoever_answers_and_pass_the_linter(
    world: World, workers: Workers
) -> None:
    world.publish(2, live(world.model(failing_at("EWR"))))
    workers.start("w1")
    dead = workers.start("w2")
    workers.start("w3")
    dead.kill()
    for origin in ("JFK", "EWR", "LGA") * 10:
        workers.infer(flight(origin))

    scrapes = [workers.ask("GET", "/metrics") for _ in range(12)]

    linter = subprocess.run(
        ["promtool", "check", "metrics"], input=scrapes[-1][2], capture_output=True, check=False
    )
    assert (linter.returncode, linter.stdout, linter.stderr) == (0, b"", b"")
    figures = [scraped(content.decode()) for _, _, content in scrapes]
    last = figures[-1]
    assert not any('worker="w2"' in name for name in last)
    for before, after in pairwise(figures):
        assert all(after[name] >= v for name, v in before.items() if "_total" in name)

    states = [one for one in read_states(workers.home) if one.worker != "w2"]
    assert sum(one.rows for one in states) == 20
    assert sum(one.failures for one in states) == 10


def test_segments_name_their_worker_and_a_torn_tail_hides_nothing(
    world: World, workers: Workers
) -> None:
    first = workers.start()
    workers.infer({**flight(), "id": "a"})
    first.kill()
    (file,) = segments(world.home.segments)
    with file.path.open("ab") as tail:
        tail.write(b"\x40\x00\x00\x00torn")
    workers.start()

    again = workers.infer({**flight(), "id": "a"})[1]
    workers.infer({**flight(), "id": "b"})

    found = segments(world.home.segments)
    assert [one.worker for one in found] == ["w1", "w1"]
    (block,) = read_blocks(found[0].path)[0]
    assert again["parameters"]["prediction_id"] == block.prediction


def test_unreadable_routes_at_the_start_are_not_ready(world: World, workers: Workers) -> None:
    world.home.routes.write_text("{", "utf-8")
    workers.start()

    assert workers.ask("GET", "/ready")[0] == 503
    assert "routes: the file is not readable" in state(workers).problems[0]
    world.home.routes.unlink()
    world.publish(1, live(world.model(constant(0.5))))
    assert workers.infer(flight())[0] == 200
    assert workers.ask("GET", "/v2/health/ready")[0] == 200
