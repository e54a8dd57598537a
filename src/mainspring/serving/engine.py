"""The engine: from rows to an answer that is on the record, out of the home's files alone."""

import os
from collections.abc import Sequence
from functools import partial
from threading import Lock

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound, Unavailable
from mainspring.core.home import Home
from mainspring.core.ids import IdSource
from mainspring.formats.routes import EndpointRoute, RouteTable, load
from mainspring.serving.batch import Batch, Scoring
from mainspring.serving.choice import Choice, chosen_of
from mainspring.serving.recall import remembered
from mainspring.serving.record import Recorder
from mainspring.serving.replay import Answer, Answers
from mainspring.serving.request_log import MakeBlock, RequestLog
from mainspring.serving.sent import Sent, batches, sent_rows
from mainspring.serving.shadows import Shadowed, Shadows
from mainspring.serving.shelf import EMPTY, Served, Shelf, stocked
from mainspring.serving.status import EndpointStatus, Status, endpoint_status
from mainspring.serving.straight import Given, OneRows, Straight
from mainspring.serving.tally import Tally
from mainspring.serving.vectors import Rows

__all__ = ["Answer", "EndpointStatus", "Engine", "Given", "OneRows", "Rows", "Status"]

_RETRY_S = 5.0
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
        self._routes_path = os.fspath(home.routes)
        self._worker = worker
        self._clock = clock
        self._ids = ids
        self._loaded_models = loaded_models
        self._scoring = Scoring(clock, ids)
        self._log = RequestLog(
            home.segments,
            worker=worker,
            clock=clock,
            ids=ids,
            sync_s=sync_s,
            segment_bytes=segment_bytes,
        )
        self._answers = Answers(remembered_requests, remembered_rows)
        self._shadows = Shadows(self._scoring.scorer, self._log, self.now_us)
        self._choices: dict[tuple[str, str, str | None], Choice] = {}
        self._straights: dict[int, Straight] = {}
        """By the identity of their choice, which they hold."""
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
        self._answers.recall(remembered(self._home.segments, self._worker, now_us=self.now_us()))

    def refresh(self) -> bool:
        """Take over the published routes if they changed; says whether the table was swapped.

        New versions are loaded and their goldens replayed before the swap, which is one
        reference. What does not load leaves its endpoint as it was, is in `status()`, and is
        tried again after some seconds.
        """
        with self._refreshing:
            table = self.news()
            return table is not None and self.take(self.stock(table))

    def news(self) -> RouteTable | None:
        """Give a table that was published since the last look; None if there is none.

        One of whose models some did not load is news again after some seconds.
        """
        try:
            stat = os.stat(self._routes_path)
        except FileNotFoundError:
            self._routes_problem = "routes: none published yet"
            return None
        seen, now = (stat.st_ino, stat.st_mtime_ns), self._clock.monotonic_s()
        failed = bool(self._shelf.problems) or self._routes_problem is not None
        if seen == self._seen and not (failed and now - self._tried_s >= _RETRY_S):
            return None
        self._seen, self._tried_s = seen, now
        try:
            table = load(self._home.routes)
        except Exception as error:  # an unreadable file must not end the worker
            self._routes_problem = str(error)
            return None
        if table.number < self._shelf.number:
            self._routes_problem = (
                f"routes: found number {table.number}, older than {self._shelf.number} in use"
            )
            return None
        self._routes_problem = None
        return table

    def can_wait(self, table: RouteTable) -> bool:
        """Tell whether a table's models must be loaded, and nobody waits for it.

        Loading takes its time. Who publishes an endpoint's first route finds it served at once.
        """
        shelf = self._shelf
        known = shelf.served.keys() | shelf.problems.keys()
        answered = known >= {(route.project, route.endpoint) for route in table.endpoints}
        return answered and not shelf.has_models_of(table)

    def stock(self, table: RouteTable) -> Shelf:
        """Load what a table needs and replay its goldens; in any thread, while answers go on."""
        return stocked(self._home, table, self._shelf, at_most=self._loaded_models)

    def take(self, shelf: Shelf) -> bool:
        """Serve by a stocked shelf from now on; False if a newer one is in use meanwhile."""
        if shelf.number < self._shelf.number:
            return False
        self._shelf = shelf
        self._choices, self._straights = {}, {}
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
        choice = self.choice(project, endpoint, version)
        sent = sent_rows(
            rows,
            choice.route.request,
            subject=choice.subject,
            request_id=request_id,
            version=version,
        )
        (answer,) = self.answer(choice, (sent,), started_s=started)
        if isinstance(answer, InvalidInput):
            raise answer
        return answer

    def choice(self, project: str, endpoint: str, version: str | None = None) -> Choice:
        """Give what requests of an endpoint share now; raises as `predict` does."""
        choices = self._choices
        served = self._find(project, endpoint)
        choice = choices.get((project, endpoint, version))
        if choice is None or choice.served is not served:
            choice = choices[project, endpoint, version] = chosen_of(served, version)
        return choice

    def answer(
        self, choice: Choice, sents: Sequence[Sent], *, started_s: float
    ) -> list[Answer | InvalidInput]:
        """Answer requests together; their records are written when it returns.

        Answers, records and counts are those of the requests one by one. No two of them may have
        the same request id.

        Args:
            choice: Who answers all of them.
            sents: The requests.
            started_s: When they came, on the clock's monotonic scale.

        Returns:
            For each its answer; InvalidInput where its id was used for other rows.
        """
        found = [None if sent.request_id is None else self._known(choice, sent) for sent in sents]
        fresh = [i for i, known in enumerate(found) if known is None]
        given = iter(fresh)
        for some in batches([sents[i] for i in fresh]):
            for batch in self._scoring.score(choice, some, started_s=started_s):
                self._settle(choice, batch)
                for scored in batch.scored:
                    found[next(given)] = scored.answer
        return [one for one in found if one is not None]

    def answer_rows(self, choice: Choice, rows: OneRows, *, started_s: float) -> Given | None:
        """Answer requests of one row each, numbers only, without request ids; as `answer` does.

        Returns:
            None if they are to be answered by `answer`: nothing was recorded or counted.
        """
        if not choice.rows_alone:
            return None
        straight = self._straights.get(id(choice))
        if straight is None:
            straight = Straight(choice, self._clock, self._ids, self._log)
            self._straights[id(choice)] = straight
        given = straight.answer(rows, self.tally, started_s=started_s, now_us=self.now_us())
        if given is not None and choice.served.shadows:
            answers = [Shadowed(None, id_, i, i + 1) for i, id_ in enumerate(given.predictions)]
            self._shadows.ask(choice.served, straight.vectors(rows), answers)
        return given

    def route(self, project: str, endpoint: str) -> EndpointRoute:
        """Give the route that an endpoint is served by now; raises as `predict` does."""
        return self._find(project, endpoint).route

    @property
    def shadows_waiting(self) -> int:
        """Count the answers whose plain shadows were not asked yet."""
        return self._shadows.waiting

    def score_shadows(self) -> int:
        """Score the plain shadows of answers already made and append their records.

        Returns:
            The number of answers done. The worker calls it when it has nothing else to do.
        """
        return self._shadows.score()

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

    def _known(self, choice: Choice, sent: Sent) -> Answer | InvalidInput | None:
        try:
            return self._answers.find(_place(choice, sent), sent.asked)
        except InvalidInput as error:
            return error

    def _settle(self, choice: Choice, batch: Batch) -> None:
        """Record, count and remember the answers of a batch."""
        route = choice.served.route
        self._lookup_problem = batch.looked_up.problem
        recorder = Recorder(
            choice, batch.looked_up.vectors.float_names, batch.timing, at_us=self.now_us()
        )
        blocks: list[tuple[int, MakeBlock | None]] = [
            (len(one.sent.keys), partial(recorder, one) if _sampled(route, one.answer) else None)
            for one in batch.scored
        ]
        self._log.append_all(blocks)
        for one in batch.scored:
            self.tally.count(route.project, route.endpoint, one.answer, one.outputs)
            if one.sent.request_id is not None:
                self._answers.keep(_place(choice, one.sent), one.sent.asked, one.answer)
        if choice.served.shadows:
            self._ask_shadows(choice.served, batch, blocks)

    def _ask_shadows(
        self, served: Served, batch: Batch, blocks: Sequence[tuple[int, MakeBlock | None]]
    ) -> None:
        end, answers = 0, []
        for one, (rows, make) in zip(batch.scored, blocks, strict=True):
            begin, end = end, end + rows
            # What is not in the sample has no record to stand beside.
            if make is not None:
                answers.append(Shadowed(one.sent.request_id, one.answer.prediction, begin, end))
        self._shadows.ask(served, batch.looked_up.vectors, answers)

    def now_us(self) -> int:
        """Give the present in microseconds of UTC since 1970."""
        return int(self._clock.now().timestamp() * 1e6)


def _place(choice: Choice, sent: Sent) -> tuple[str, str, str]:
    return (choice.route.project, choice.route.endpoint, sent.request_id or "")


def _sampled(route: EndpointRoute, answer: Answer) -> bool:
    # The last 52 bits of an id are random, so the sample does not depend on the key.
    return route.sample_share >= 1 or int(answer.prediction[-13:], 16) / _HEX13 < route.sample_share
