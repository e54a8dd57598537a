"""The engine: from rows to an answer that is on the record, out of the home's files alone."""

from collections import deque
from collections.abc import Mapping
from threading import Lock

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import NotFound, Unavailable
from mainspring.core.home import Home
from mainspring.core.ids import Id, IdSource
from mainspring.formats.routes import Arm, EndpointRoute, load
from mainspring.formats.segment import ArmOutput
from mainspring.serving.recall import remembered
from mainspring.serving.record import Exchange, Timing, answer_block, shadow_block
from mainspring.serving.replay import Answer, Answers, asked_digest
from mainspring.serving.request_log import RequestLog
from mainspring.serving.router import chosen
from mainspring.serving.scoring import Scorer, Settled, settle
from mainspring.serving.shelf import EMPTY, Served, stocked
from mainspring.serving.status import EndpointStatus, Status, endpoint_status
from mainspring.serving.tally import Tally
from mainspring.serving.vectors import Rows, checked

__all__ = ["Answer", "EndpointStatus", "Engine", "Rows", "Status"]

_RETRY_S = 5.0
_SHADOWS_WAITING = 64
_HEX13 = float(1 << 52)


class Engine:
    """One worker's data plane. `predict` is thread-safe, also while `refresh` swaps.

    It reads routes, models and online tables from the home and asks nobody: without a control
    plane it goes on with what it has.
    """

    def __init__(
        self,
        home: Home,
        *,
        worker: str,
        clock: Clock,
        ids: IdSource,
        sync_s: float = 1.0,
        loaded_models: int = 16,
        remembered_requests: int = 4096,
        remembered_rows: int = 200_000,
        segment_bytes: int = 64 << 20,
    ) -> None:
        self._home = home
        self._worker = worker
        self._clock = clock
        self._ids = ids
        self._loaded_models = loaded_models
        self._scorer = Scorer(clock)
        self._log = RequestLog(
            home.segments,
            worker=worker,
            clock=clock,
            ids=ids,
            sync_s=sync_s,
            segment_bytes=segment_bytes,
        )
        self._answers = Answers(remembered_requests, remembered_rows)
        self._shadows: deque[tuple[Exchange, Id]] = deque()
        self._refreshing = Lock()
        self._shelf = EMPTY
        self._seen: tuple[int, int] | None = None
        self._tried_s = float("-inf")
        self._routes_problem: str | None = None
        self._lookup_problem: str | None = None
        self.tally = Tally()

    def recall(self) -> None:
        """Take over what an earlier worker of this name answered; once, before the first request.

        A client that repeats its request after a kill then gets its first answer.
        """
        self._answers.recall(remembered(self._home.segments, self._worker, now_us=self._now_us()))

    def refresh(self) -> bool:
        """Take over the published routes if they changed; says whether the table was swapped.

        New versions are loaded and their goldens replayed before the swap, which is one
        reference. What does not load leaves its endpoint as it was, is in `status()`, and is
        tried again after some seconds.
        """
        with self._refreshing:
            try:
                stat = self._home.routes.stat()
            except FileNotFoundError:
                self._routes_problem = "routes: none published yet"
                return False
            seen, now = (stat.st_ino, stat.st_mtime_ns), self._clock.monotonic_s()
            failed = bool(self._shelf.problems) or self._routes_problem is not None
            if seen == self._seen and not (failed and now - self._tried_s >= _RETRY_S):
                return False
            self._seen, self._tried_s = seen, now
            return self._take_over()

    def _take_over(self) -> bool:
        try:
            table = load(self._home.routes)
        except Exception as error:  # an unreadable file must not end the worker
            self._routes_problem = str(error)
            return False
        if table.number < self._shelf.number:
            self._routes_problem = (
                f"routes: found number {table.number}, older than {self._shelf.number} in use"
            )
            return False
        self._routes_problem = None
        self._shelf = stocked(self._home, table, self._shelf, at_most=self._loaded_models)
        return True

    def predict(
        self,
        project: str,
        endpoint: str,
        rows: Rows,
        *,
        request_id: str | None = None,
        version: str | None = None,
    ) -> Answer:
        """Answer rows; the record is written before it returns.

        A repeated request id gets its first answer again, without a new record, as long as this
        worker remembers it. A row that no arm can score is in the answer's `errors`.

        Args:
            project: Of the endpoint.
            endpoint: Its name.
            rows: What to predict for.
            request_id: The caller's own, for repeats.
            version: Only this version may answer, without a fallback; None leaves it to the keys.

        Raises:
            NotFound, Unavailable: There is no such endpoint, or none of its versions loaded, or
                the version is not among those that answer.
            InvalidInput, SchemaMismatch: A row is wrong; nothing was scored.
        """
        started = self._clock.monotonic_s()
        served = self._find(project, endpoint)
        place = (project, endpoint, request_id or "")
        asked = b"" if request_id is None else asked_digest(rows, version)
        if request_id is not None and (known := self._answers.find(place, asked)) is not None:
            return known
        route = served.route if version is None else _pinned(served.route, version)
        sent = checked(rows, route.request, subject=f"endpoint {endpoint!r}")
        before_lookup = self._clock.monotonic_s()
        looked_up = served.lookup(sent, rows.event_times_us)
        self._lookup_problem = looked_up.problem
        picked = chosen(route, rows.keys)
        exchange = Exchange(served, rows, request_id, looked_up, picked, asked, version is not None)
        before_compute = self._clock.monotonic_s()
        # In a rollout both arms score whoever answers: the guards compare pairs.
        scored_by = route if route.rollout is None else served.route
        scores = self._scorer.score(scored_by, served.models, looked_up.vectors, picked)
        settled = settle(route, picked, scores)
        done = self._clock.monotonic_s()
        answer = _answer(self._ids.new(), picked, settled)
        timing = Timing(
            before_lookup - started, before_compute - before_lookup, done - before_compute
        )
        outputs = {version: score.output() for version, score in scores.items()}
        recorded = self._record(exchange, answer, outputs, timing)
        self.tally.count(project, endpoint, answer, outputs)
        if request_id is not None:
            self._answers.keep(place, asked, answer)
        if recorded:
            self._ask_shadows(exchange, answer.prediction)
        return answer

    def route(self, project: str, endpoint: str) -> EndpointRoute:
        """Give the route that an endpoint is served by now; raises as `predict` does."""
        return self._find(project, endpoint).route

    @property
    def shadows_waiting(self) -> int:
        """Count the answers whose plain shadows were not asked yet."""
        return len(self._shadows)

    def score_shadows(self) -> int:
        """Score the plain shadows of answers already made and append their records.

        Returns:
            The number of answers done. The worker calls it when it has nothing else to do.
        """
        done = 0
        while True:
            try:
                exchange, prediction = self._shadows.popleft()
            except IndexError:
                return done
            self._score_shadow(exchange, prediction)
            done += 1

    def sync(self) -> None:
        """Make the request log survive power loss up to here; for the idle worker's timer."""
        self._log.sync()

    def status(self) -> Status:
        """Describe what is served and what is wrong."""
        shelf = self._shelf
        names = sorted({*shelf.served, *shelf.problems})
        problems = (self._routes_problem, self._log.problem, self._lookup_problem)
        return Status(
            worker=self._worker,
            routes=shelf.number,
            taken=shelf is not EMPTY,
            endpoints=tuple(endpoint_status(name, shelf.served, shelf.problems) for name in names),
            loaded_models=len(shelf.models),
            rows_missing=self._log.missing,
            rows_left_out=self._log.left_out,
            problems=tuple(problem for problem in problems if problem is not None),
        )

    def close(self) -> None:
        """Score waiting shadows, sync and end the segment."""
        self.score_shadows()
        self._log.close()

    def _find(self, project: str, endpoint: str) -> Served:
        shelf = self._shelf
        served = shelf.served.get((project, endpoint))
        if served is not None:
            return served
        problem = shelf.problems.get((project, endpoint))
        if problem is not None:
            raise Unavailable(f"endpoint {endpoint!r}: no version is ready ({problem})")
        known = ", ".join(sorted(name for of, name in shelf.served if of == project)) or "none"
        raise NotFound(
            f"endpoint {endpoint!r} of project {project!r} has no route; known ones: {known}"
        )

    def _record(
        self, exchange: Exchange, answer: Answer, outputs: Mapping[str, ArmOutput], timing: Timing
    ) -> bool:
        share = exchange.served.route.sample_share
        # The last 52 bits of an id are random, so the sample does not depend on the key.
        if share < 1 and int(answer.prediction[-13:], 16) / _HEX13 >= share:
            self._log.leave_out(exchange.looked_up.vectors.count)
            return False
        at_us = self._now_us()
        self._log.append(
            exchange.looked_up.vectors.count,
            lambda missing, sampled: answer_block(
                exchange, answer, outputs, timing, at_us=at_us, missing=missing, sampled=sampled
            ),
        )
        return True

    def _ask_shadows(self, exchange: Exchange, prediction: Id) -> None:
        if exchange.served.shadows:
            self._shadows.append((exchange, prediction))
            if len(self._shadows) > _SHADOWS_WAITING:
                self.score_shadows()

    def _score_shadow(self, exchange: Exchange, prediction: Id) -> None:
        served, route = exchange.served, exchange.served.route
        vectors = exchange.looked_up.vectors
        outputs = {
            arm.version: self._scorer.arm(route, served.models, arm, vectors).output()
            for arm in served.shadows
        }
        at_us = self._now_us()
        self._log.append(
            0,
            lambda missing, sampled: shadow_block(
                exchange, prediction, outputs, at_us=at_us, missing=missing, sampled=sampled
            ),
        )

    def _now_us(self) -> int:
        return int(self._clock.now().timestamp() * 1e6)


def _pinned(route: EndpointRoute, version: str) -> EndpointRoute:
    answering = [arm for arm in route.arms if arm.role != "shadow"]
    for arm in answering:
        if arm.version == version:
            return msgspec.structs.replace(route, arms=(arm,))
    known = ", ".join(arm.version for arm in answering)
    raise NotFound(
        f"endpoint {route.endpoint!r}: version {version!r} does not answer it now; those that do: "
        f"{known}"
    )


def _answer(prediction: Id, picked: list[Arm], settled: Settled) -> Answer:
    return Answer(
        prediction,
        settled.outputs,
        settled.versions,
        settled.roles,
        [a.version != version for a, version in zip(picked, settled.versions, strict=True)],
        settled.errors,
    )
