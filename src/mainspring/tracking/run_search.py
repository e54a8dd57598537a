"""Searches of runs that stay quick among a million: driven by what is rare, else read in order.

Sorting all that matches is quick while that is little. Where a term of the filter, or the
experiments, leave few runs, those are found by its index, checked and sorted. Where everything
leaves many, runs are read from an index in the order that is asked for, and each is checked: a page
is full soon, because many match. In between, the way that reads fewer runs is taken.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    exists,
    func,
    literal_column,
    select,
)

from mainspring.store.filters import (
    Order,
    Term,
    number_condition,
    order,
    terms,
    text_condition,
    unindexed,
)
from mainspring.tracking.run import NAME_TAG
from mainspring.tracking.search import (
    ENTITIES,
    RUNS,
    Page,
    View,
    condition,
    ordered,
    seen,
)
from mainspring.tracking.tables import METRIC, PARAM, RUN_RECORD, TAG, head_of

RARE = 10_000
"""So many runs are always sorted rather than read in order."""

COUNTED = 100_000
"""Up to here it is counted how many a term finds; what finds more counts as finding all."""

_DEAR = 3
"""In the order of a metric or a text, runs lie anywhere: each costs as much as so many in a row."""


def search_runs(
    connection: Connection,
    project: str,
    *,
    experiments: Sequence[str],
    text: str | None,
    orders: Sequence[str],
    view: View,
    page: Page,
) -> Sequence[Row[Any]]:
    """Give the rows of runs that match, in order.

    Raises:
        InvalidInput: The filter or an order cannot be read.
    """
    asked = terms(text, ENTITIES, default="attribute")
    ways = [order(one, ENTITIES, default="attribute") for one in orders]
    search = _Search(connection, project, experiments, asked, ways, view)
    if search.is_sorted(page.offset + page.limit):
        return connection.execute(search.sorted().offset(page.offset).limit(page.limit)).all()
    return _pieces(connection, search.in_order(), page)


class _Search:
    """One search, as statements."""

    def __init__(
        self,
        connection: Connection,
        project: str,
        experiments: Sequence[str],
        asked: Sequence[Term],
        ways: Sequence[Order],
        view: View,
    ) -> None:
        self._connection = connection
        self._project = project
        self._experiments = list(experiments)
        self._asked = asked
        self._ways = list(ways)
        self._view = view
        self._driver: Term | None = None
        """The term by whose index runs are found, when they are sorted."""
        self._by_experiment = False

    def is_sorted(self, wanted: int) -> bool:
        """Choose the way; `wanted` counts the runs up to the end of the page."""
        within: Select[Any] = select(literal_column("1")).where(
            RUN_RECORD.c.project == self._project, RUN_RECORD.c.experiment.in_(self._experiments)
        )
        self._by_experiment = self._count(within, RARE) <= RARE
        if self._by_experiment:
            return True
        counts = [
            (self._count(found, COUNTED), place)
            for place, found in enumerate(_owners(self._project, term) for term in self._asked)
            if found is not None
        ]
        fewest, place = min(counts, default=(COUNTED + 1, 0))
        if fewest <= COUNTED:
            self._driver = self._asked[place]
        if fewest <= RARE or not self._reads_in_order:
            return True
        return fewest <= COUNTED and fewest < self._read_until([n for n, _ in counts], wanted)

    def _read_until(self, counts: Sequence[int], wanted: int) -> float:
        """Guess how many runs are read in order until a page is full, as if terms were apart."""
        mine = RUN_RECORD.c.project == self._project
        all_runs = self._connection.execute(select(func.count()).where(mine)).scalar_one()
        share = 1.0
        for count in counts:
            if count <= COUNTED:
                share *= min(1.0, count / max(all_runs, 1))
        dear = _DEAR if self._ways and self._ways[0].entity != "attribute" else 1
        return wanted / max(share, 1e-9) * dear

    def _count(self, query: Select[Any], at_most: int) -> int:
        counted = select(func.count()).select_from(query.limit(at_most + 1).subquery())
        return int(self._connection.execute(counted).scalar_one())

    # --- few runs: found by an index, then sorted

    def sorted(self) -> Select[Any]:
        """Give the statement that sorts all that match."""
        query = self._runs()
        experiment: Any = RUN_RECORD.c.experiment
        if not self._by_experiment:
            # Not by the index of experiments: something else leaves fewer.
            experiment = unindexed(experiment)
        query = seen(query.where(experiment.in_(self._experiments)), RUN_RECORD, self._view)
        for term in self._asked:
            found = condition(RUNS, self._project, term)
            query = query.where(found if term is self._driver else _holds(self._project, term))
        for way in self._ways:
            query = ordered(query, RUNS, self._project, way)
        # Not by the index of starts either, which would be read whole to find the few.
        return query.order_by((RUN_RECORD.c.started_ms + 0).desc(), RUN_RECORD.c.run)

    def _then(self, query: Select[Any], ways: Sequence[Order]) -> Select[Any]:
        for way in ways:
            query = ordered(query, RUNS, self._project, way)
        return query.order_by(RUN_RECORD.c.started_ms.desc(), RUN_RECORD.c.run)

    # --- many runs: read in the order of an index, each checked

    @property
    def _reads_in_order(self) -> bool:
        """Tell whether an index has the order that is asked for."""
        if not self._ways:
            return True
        first = self._ways[0]
        if first.entity == "attribute":
            return RUNS.numbers.get(first.key) is RUN_RECORD.c.started_ms
        return first.entity in ("metric", "parameter", "tag")

    def in_order(self) -> list[Select[Any]]:
        """Give statements whose rows behind each other are all that match, in order."""
        if not self._ways or self._ways[0].entity == "attribute":
            query = self._checked(self._runs())
            if self._ways:
                started = RUN_RECORD.c.started_ms
                query = query.order_by(started if self._ways[0].ascending else started.desc())
            return [self._then(query, self._ways[1:])]
        first, rest = self._ways[0], self._ways[1:]
        if first.entity == "metric":
            return self._by_metric(first, rest)
        return self._by_text(first, rest)

    def _by_metric(self, way: Order, rest: Sequence[Order]) -> list[Select[Any]]:
        """Numbers first, then what is no number, then runs without the metric."""
        metric = METRIC.alias()
        mine = (metric.c.project == self._project) & (metric.c.key == way.key)
        joined = select(RUN_RECORD).select_from(metric.join(RUN_RECORD, _run_of(metric, "run")))
        value = metric.c.value if way.ascending else metric.c.value.desc()
        numbers = self._checked(joined.where(mine, ~metric.c.is_nan)).order_by(value)
        others = self._checked(joined.where(mine, metric.c.is_nan))
        none = self._checked(self._runs().where(~_has(METRIC, self._project, "run", way.key)))
        return [self._then(one, rest) for one in (numbers, others, none)]

    def _by_text(self, way: Order, rest: Sequence[Order]) -> list[Select[Any]]:
        """Texts first, by the index of their heads, then runs without one."""
        table = (PARAM if way.entity == "parameter" else TAG).alias()
        mine = (table.c.project == self._project) & (table.c.key == way.key)
        joined = select(RUN_RECORD).select_from(table.join(RUN_RECORD, _run_of(table, "owner")))
        sorts = [head_of(table.c.value), table.c.value]
        texts = self._checked(joined.where(mine)).order_by(
            *(one if way.ascending else one.desc() for one in sorts)
        )
        whole = PARAM if way.entity == "parameter" else TAG
        none = self._checked(self._runs().where(~_has(whole, self._project, "owner", way.key)))
        return [self._then(one, rest) for one in (texts, none)]

    def _runs(self) -> Select[Any]:
        # Only here: where runs are joined, their project is that of what they are joined to, and
        # said twice it would have them read first.
        return select(RUN_RECORD).where(RUN_RECORD.c.project == self._project)

    def _checked(self, query: Select[Any]) -> Select[Any]:
        """Ask of each run, by itself, all that the search asks."""
        query = seen(query, RUN_RECORD, self._view)
        query = query.where(unindexed(RUN_RECORD.c.experiment).in_(self._experiments))
        for term in self._asked:
            query = query.where(_holds(self._project, term))
        return query


def _pieces(
    connection: Connection, statements: Sequence[Select[Any]], page: Page
) -> list[Row[Any]]:
    """Give a page of the rows of statements behind each other."""
    found: list[Row[Any]] = []
    skip = page.offset
    for one in statements:
        wanted = page.limit - len(found)
        if wanted <= 0:
            break
        rows = connection.execute(one.offset(skip).limit(wanted)).all()
        found += rows
        if skip and not rows:
            # The page begins behind all of this one.
            whole = select(func.count()).select_from(one.order_by(None).subquery())
            skip = max(0, skip - connection.execute(whole).scalar_one())
        else:
            skip = 0
    return found


def _owners(project: str, term: Term) -> Select[Any] | None:
    """Give what an index finds of a term, perhaps more than match; None where none finds it."""
    if term.entity == "metric" and term.operator not in ("!=", "IS NULL", "IS NOT NULL"):
        mine = (METRIC.c.project == project) & (METRIC.c.key == term.key)
        return select(literal_column("1")).where(mine, number_condition(METRIC.c.value, term))
    if term.entity in ("parameter", "tag") and term.key != NAME_TAG:
        table = PARAM if term.entity == "parameter" else TAG
        mine = (table.c.project == project) & (table.c.key == term.key)
        if term.operator == "=" and isinstance(term.value, str) and term.quoted:
            return select(literal_column("1")).where(
                mine, head_of(table.c.value) == head_of(term.value)
            )
        if term.operator != "IS NULL":
            # That many have the key at all.
            return select(literal_column("1")).where(mine)
    column = _indexed(term)
    if column is not None and term.operator in ("=", "IN"):
        of_project = RUN_RECORD.c.project == project
        return select(literal_column("1")).where(of_project, text_condition(column, term))
    return None


def _indexed(term: Term) -> ColumnElement[Any] | None:
    """Give the run's own column that a term asks for, if it has an index."""
    if (term.entity, term.key) == ("tag", NAME_TAG):
        return RUN_RECORD.c.name
    column = RUNS.texts.get(term.key) if term.entity == "attribute" else None
    return column if column is RUN_RECORD.c.run or column is RUN_RECORD.c.name else None


def _holds(project: str, term: Term) -> Any:
    """Give a term as a question to one run."""
    if term.entity == "metric":
        mine = _has(METRIC, project, "run", term.key)
        holds = number_condition(METRIC.c.value, term)
        holds = holds | METRIC.c.is_nan if term.operator == "!=" else holds & ~METRIC.c.is_nan
        return mine.where(holds)
    if term.entity in ("parameter", "tag") and term.key != NAME_TAG:
        table = PARAM if term.entity == "parameter" else TAG
        if term.operator not in ("IN", "NOT IN"):
            mine = _has(table, project, "owner", term.key)
            if term.operator == "IS NULL":
                return ~mine
            if term.operator == "IS NOT NULL":
                return mine
            return mine.where(text_condition(table.c.value, term))
    return condition(RUNS, project, term)


def _has(table: Any, project: str, owner: str, key: str) -> Any:
    """Ask whether a run has a metric, parameter or tag."""
    return exists().where(
        table.c.project == project, table.c[owner] == RUN_RECORD.c.run, table.c.key == key
    )


def _run_of(table: Any, owner: str) -> Any:
    return (RUN_RECORD.c.project == table.c.project) & (RUN_RECORD.c.run == table.c[owner])
