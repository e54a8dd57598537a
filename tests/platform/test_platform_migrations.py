"""A home that was migrated has the tables that the rooms declare."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.features.tables import METADATA as FEATURES
from mainspring.loop.tables import METADATA as LOOP
from mainspring.monitoring.tables import METADATA as MONITORING
from mainspring.outbound.tables import METADATA as OUTBOUND
from mainspring.pipelines.tables import METADATA as PIPELINES
from mainspring.platform import DERIVATIONS, Platform
from mainspring.registry.tables import METADATA as REGISTRY
from mainspring.store.chain import METADATA as STORE
from mainspring.tracking.tables import METADATA as TRACKING


# What an index has of a text is an expression, which the comparison passes over.
@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_a_migrated_home_has_the_declared_tables(tmp_path: Path) -> None:
    declared = MetaData()
    rooms = (STORE, FEATURES, MONITORING, OUTBOUND, PIPELINES, REGISTRY, TRACKING, LOOP)
    for metadata in rooms:
        for table in metadata.tables.values():
            table.to_metadata(declared)
    for derivation in DERIVATIONS:
        for table in derivation.tables:
            if table.name not in declared.tables:
                table.to_metadata(declared)

    with (
        Platform.open(Config(), tmp_path / "home", clock=SystemClock()) as platform,
        platform.database.read() as connection,
    ):
        differences = compare_metadata(MigrationContext.configure(connection), declared)

    assert [one for one in differences if "alembic_version" not in str(one)] == []


def test_opening_a_home_a_second_time_changes_nothing(tmp_path: Path) -> None:
    with Platform.open(Config(), tmp_path / "home", clock=SystemClock()) as platform:
        first = platform.ledger.verify()

    with Platform.open(Config(), tmp_path / "home", clock=SystemClock()) as platform:
        assert platform.ledger.verify() == first
