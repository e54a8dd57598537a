"""What a run read and made beside files: datasets with their tags, and logged models."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id
from mainspring.store.filters import unindexed
from mainspring.tracking.tables import DATASET_RECORD, MODEL_LINK, RUN_DATASET
from mainspring.tracking.texts import parts

CONTEXT = "mlflow.data.context"
"""The tag that says what a dataset was for: training, evaluation."""

_LIMITS = {
    "name": 500,
    "digest": 36,
    "source_type": 500,
    "source": 65_535,
    "schema": 1_048_575,
    "profile": 16_777_215,
}
_TAG_KEY_LENGTH, _TAG_VALUE_LENGTH = 255, 500


class DatasetUsed(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that a run read, as the client described it."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


class ModelLink(msgspec.Struct, frozen=True):
    """A logged model that a run read or made, at a step."""

    model: str
    step: int = 0


class Links(NamedTuple):
    """What is noted of a run: datasets and models that it read, models that it made."""

    run: Id
    datasets: Sequence[DatasetUsed] = ()
    read: Sequence[ModelLink] = ()
    made: Sequence[ModelLink] = ()


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run is linked with."""

    datasets: tuple[DatasetUsed, ...] = ()
    read: tuple[ModelLink, ...] = ()
    made: tuple[ModelLink, ...] = ()


def add_datasets(
    connection: Connection,
    project: str,
    run: str,
    experiment: str,
    datasets: Sequence[DatasetUsed],
) -> None:
    """Note that a run read datasets; one it has noted before stays as it was."""
    for dataset in datasets:
        _check(dataset)
        place = {"project": project, "name": dataset.name, "digest": dataset.digest}
        _once(
            connection,
            DATASET_RECORD,
            {**place, "experiment": experiment},
            {
                "source_type": dataset.source_type,
                "source": dataset.source,
                "schema": dataset.schema,
                "profile": dataset.profile,
            },
        )
        _once(
            connection,
            RUN_DATASET,
            {**place, "run": run},
            {
                "experiment": experiment,
                "context": dataset.tags.get(CONTEXT),
                "tags": msgspec.json.encode(dataset.tags),
            },
        )


def link_models(
    connection: Connection, project: str, run: str, direction: str, links: Sequence[ModelLink]
) -> None:
    """Note models that a run read or made; the newest step stays."""
    for link in links:
        key = {"project": project, "run": run, "direction": direction, "model": link.model}
        same = [MODEL_LINK.c[name] == value for name, value in key.items()]
        connection.execute(delete(MODEL_LINK).where(*same))
        connection.execute(insert(MODEL_LINK).values(**key, step=link.step))


def inputs_of(connection: Connection, project: str, runs: Sequence[str]) -> dict[str, Inputs]:
    """Give what each of some runs is linked with; runs without links are left out."""
    datasets: dict[str, list[DatasetUsed]] = defaultdict(list)
    links: dict[tuple[str, str], list[ModelLink]] = defaultdict(list)
    for part in parts(runs):
        values = {"of_project": project, "of_runs": part}
        for row in connection.execute(_DATASETS_OF, values):
            datasets[row.run].append(_dataset(row))
        for row in connection.execute(_LINKS_OF, values):
            links[row.run, row.direction].append(ModelLink(row.model, row.step))
    found = {*datasets, *(run for run, _ in links)}
    return {
        run: Inputs(
            datasets=tuple(datasets.get(run, ())),
            read=tuple(links.get((run, "read"), ())),
            made=tuple(links.get((run, "made"), ())),
        )
        for run in found
    }


def _datasets_of() -> Any:
    same = (
        (DATASET_RECORD.c.project == RUN_DATASET.c.project)
        & (DATASET_RECORD.c.experiment == RUN_DATASET.c.experiment)
        & (DATASET_RECORD.c.name == RUN_DATASET.c.name)
        & (DATASET_RECORD.c.digest == RUN_DATASET.c.digest)
    )
    columns = [c for c in DATASET_RECORD.c if c.name not in ("project", "experiment")]
    return (
        select(RUN_DATASET.c.run, RUN_DATASET.c.tags, *columns)
        .join(DATASET_RECORD, same)
        .where(
            RUN_DATASET.c.project == bindparam("of_project"),
            RUN_DATASET.c.run.in_(bindparam("of_runs", expanding=True)),
        )
        .order_by(unindexed(RUN_DATASET.c.name), RUN_DATASET.c.digest)
    )


def _links_of() -> Any:
    mine = MODEL_LINK.c.run.in_(bindparam("of_runs", expanding=True))
    query = select(MODEL_LINK).where(MODEL_LINK.c.project == bindparam("of_project"), mine)
    return query.order_by(MODEL_LINK.c.model)


def _dataset(row: Any) -> DatasetUsed:
    return DatasetUsed(
        name=row.name,
        digest=row.digest,
        source_type=row.source_type,
        source=row.source,
        schema=row.schema,
        profile=row.profile,
        tags=msgspec.json.decode(row.tags, type=dict[str, str]),
    )


def _once(connection: Connection, table: Any, key: dict[str, Any], values: dict[str, Any]) -> None:
    same = [table.c[name] == value for name, value in key.items()]
    if connection.execute(select(table.c.name).where(*same)).first() is None:
        connection.execute(insert(table).values(**key, **values))


def _check(dataset: DatasetUsed) -> None:
    for name, limit in _LIMITS.items():
        value = getattr(dataset, name)
        if value is not None and len(value) > limit:
            raise InvalidInput(f"'{name}' exceeds the maximum length of {limit} characters")
    for key, value in dataset.tags.items():
        if len(key) > _TAG_KEY_LENGTH:
            raise InvalidInput(f"'key' exceeds the maximum length of {_TAG_KEY_LENGTH} characters")
        if len(value) > _TAG_VALUE_LENGTH:
            raise InvalidInput(
                f"'value' exceeds the maximum length of {_TAG_VALUE_LENGTH} characters"
            )


# Built once: making a statement costs more than running it.
_DATASETS_OF = _datasets_of()
_LINKS_OF = _links_of()
