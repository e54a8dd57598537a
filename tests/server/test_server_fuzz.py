"""Requests made from the interface's own document: none ends in a mistake of ours.

`SCHEMA_EXAMPLES` raises the number of requests per verb.
"""

import os
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from tests.server.conftest import Served

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "6"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
REAL: dict[str, Any] = {"endpoint": "stop", "dataset": "readings", "project": "default",
                        "version": "1", "wait_s": 0, "name": "ann"}  # fmt: skip
"""What makes a request reach further than to "does not exist"."""


def ask_about(operation: Any) -> int:
    """Ask one verb in many ways; give how often."""
    asked = 0

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 10,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(), real=strategies.booleans())
    def ask(case: Any, real: bool) -> None:
        nonlocal asked
        for given in (case.body, case.query) if real else ():
            if isinstance(given, dict):
                given.update({name: REAL[name] for name in REAL if name in given})
        response = case.call(timeout=60)
        asked += 1
        case.validate_response(response, checks=CHECKS)

    ask()
    return asked


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_request_that_the_document_allows_ends_in_a_mistake_of_ours(started: "Served") -> None:
    schema = schemathesis.openapi.from_url(f"{started.url}/api/v1/openapi.json")
    operations = []
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operations.append(found.ok())

    asked = {
        operation.path: ask_about(operation)
        for operation in operations
        if not operation.path.endswith("/events/stream")
    }

    assert len(asked) > 40
    assert all(asked.values())
    assert started.ask("GET", "/health").status == 200
    assert started.local.verify().ok
