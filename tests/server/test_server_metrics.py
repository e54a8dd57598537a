"""Numbers for Prometheus: clean, bounded, and true."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mainspring.formats.wire import Process
from mainspring.formats.worker import WorkerState, write_state

if TYPE_CHECKING:
    from tests.server.conftest import Served

AT = datetime(2026, 4, 1, tzinfo=UTC)
PROMTOOL = shutil.which("promtool")


@pytest.fixture
def busy(started: "Served") -> "Served":
    """A platform with a live version, two processes and a worker's counts."""
    advanced = started.local.advance("stop", AT)
    assert advanced.error is None
    started.control.processes = (
        Process("control", "control", os.getpid(), "ready", 2, AT),
        Process("inference", "w1", 0, "backoff", 5, AT),
        Process("run", "0" * 32, os.getpid(), "ready", 0, AT),
    )
    write_state(
        started.platform.home,
        WorkerState(
            worker="w1", pid=os.getpid(), started=AT, ready=True, routes=7, in_flight=0,
            requests=11, rows=22, failures=3, left_out=4, problems=(),
            by_version={"default/stop/1/live": 22},
        ),
    )  # fmt: skip
    return started


def test_the_numbers_are_there(busy: "Served") -> None:
    busy.ask("GET", "/made/up/path")
    text = busy.ask("GET", "/metrics").content.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    facts = len(busy.platform.ledger.facts(limit=10_000))
    assert lines["mainspring_ledger_facts_total"] == f"{facts}.0"
    assert lines['mainspring_process_up{name="control",role="control"}'] == "1.0"
    assert lines['mainspring_process_up{name="w1",role="inference"}'] == "0.0"
    assert lines['mainspring_process_restarts_total{name="w1",role="inference"}'] == "5.0"
    memory = float(lines['mainspring_process_memory_bytes{name="control",role="control"}'])
    assert memory > 10 << 20
    named = '{endpoint="stop",project="default"}'
    assert float(lines[f"mainspring_endpoint_watermark_lag_seconds{named}"]) > 0
    assert lines[f"mainspring_endpoint_open_alarms{named}"] == "0.0"
    live = 'mainspring_endpoint_live_info{endpoint="stop",project="default",version="1"}'
    assert lines[live] == "1.0"
    assert lines['mainspring_inference_rows_total{worker="w1"}'] == "22.0"
    assert lines['mainspring_inference_left_out_total{worker="w1"}'] == "4.0"
    assert lines[
        'mainspring_predictions_total{arm="live",endpoint="stop",project="default",version="1",'
        'worker="w1"}'
    ] == "22.0"  # fmt: skip
    nowhere = '{face="none",method="none",route="none",status="404"}'
    assert lines[f"mainspring_requests_total{nowhere}"] == "1.0"
    assert "made/up" not in text
    assert "0" * 32 not in text


def test_promtool_finds_nothing(busy: "Served") -> None:
    if PROMTOOL is None:
        if os.environ.get("ALL_PARTS_MANDATORY") == "1":
            pytest.fail("promtool is not installed, and all parts are mandatory")
        pytest.skip("promtool is not installed")
    busy.ask("GET", "/health")
    text = busy.ask("GET", "/metrics").content

    checked = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert checked.returncode == 0, checked.stderr.decode()
    assert not checked.stderr
    assert not checked.stdout
