"""A well-formed request for every verb; nothing in it need exist."""

import base64
from typing import Any

import polars as pl

from mainspring.api.arrow import encode

AT = "2026-04-01T00:00:00Z"
DIGEST = "0" * 64
RUN = {"run": "0" * 32, "token": "t"}
ROWS = base64.b64encode(encode(pl.DataFrame({"reading_id": ["r1"]}))).decode()
DECISION = {"endpoint": "stop", "version": "1", "comment": "why", "expect": 0}
DATASET = {"name": "d", "key": "k", "time": "t", "arrival": "a"}
LEASE = {
    "dataset": DATASET,
    "token": "w:1",
    "lease": {
        "project": "default",
        "kind": "dataset",
        "name": "d",
        "owner": "o",
        "attempt": 1,
        "token": "t",
        "ends": AT,
    },
    "version": 0,
    "delta_version": None,
    "rows_before": None,
    "rows_total": 0,
    "tokens": [],
}
WRITTEN = {
    "digest": DIGEST,
    "rows": 1,
    "reasons": {},
    "delta_version": 0,
    "quarantine_delta_version": None,
    "event_time_min": None,
    "event_time_max": None,
    "arrival_max": None,
}
DECLARED = {"source": "p.py", "files": {"p.py": ""}, "datasets": [DATASET]}

BODIES: dict[str, dict[str, Any]] = {
    "project.apply": {"declaration": DECLARED},
    "project.status": {},
    "data.begin": {"dataset": "readings", "token": "w:1"},
    "data.finish": {"lease": LEASE, "written": WRITTEN},
    "data.abandon": {"lease": LEASE},
    "data.log": {"dataset": "readings"},
    "data.show": {"dataset": "readings", "version": 1, "limit": 5},
    "data.quarantine": {"dataset": "readings", "version": 1, "limit": 5},
    "feature.push": {"dataset": "readings", "rows": ROWS, "until": AT, "token": "w:1"},
    "label.add": {"endpoint": "stop", "token": "t", "labels": []},
    "label.list": {"endpoint": "stop", "start": AT, "limit": 5},
    "endpoint.advance": {"endpoint": "stop", "until": AT, "settle": False},
    "endpoint.watermark": {"endpoint": "stop"},
    "run.start": {"endpoint": "stop", "parameters": {}, "token": "t"},
    "run.list": {"endpoint": "stop", "limit": 5},
    "run.show": {"run": "0" * 32},
    "run.cancel": {"run": "0" * 32, "comment": "why"},
    "run.output": {"run": "0" * 32, "offset": 0, "limit": 100},
    "run.sources": {"run": "0" * 32},
    "run.renew": RUN,
    "run.step": {"key": DIGEST},
    "run.record": {**RUN, "key": DIGEST, "step": "s", "outputs": {"results": {}, "logged": {}}},
    "run.log": {**RUN, "logged": {}},
    "run.leave": RUN,
    "run.close": {**RUN, "report": {"outcome": "failed", "message": "m"}},
    "endpoint.show": {"endpoint": "stop"},
    "endpoint.counts": {"endpoint": "stop"},
    "endpoint.windows": {"endpoint": "stop"},
    "endpoint.approve": DECISION,
    "endpoint.reject": DECISION,
    "endpoint.promote": DECISION,
    "endpoint.rollback": {"endpoint": "stop", "comment": "why"},
    "routes.show": {},
    "event.list": {"after": 0, "limit": 5, "subject": "endpoint/stop"},
    "audit.verify": {},
    "prediction.trace": {"prediction": "0" * 32},
    "run.diff": {"run": "0" * 32, "other": "1" * 32},
    "model.card": {"model": "delay", "version": "1"},
    "access.grant": {"name": "cid", "role": "viewer"},
    "access.revoke": {"name": "cid"},
    "access.issue": {"name": "cid"},
    "token.revoke": {"token": "0" * 32},
    "access.list": {},
    "token.list": {},
}
