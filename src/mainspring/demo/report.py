"""What the demo shows at its end: a table by month, and every claim with what was found."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mainspring.api.ledger import FactLine
from mainspring.core.home import Home
from mainspring.core.ids import DEFAULT_PROJECT, Digest
from mainspring.demo.broken import Broken
from mainspring.demo.replay import DATASETS, ENDPOINT, Replay
from mainspring.serving.runtime import OnnxModel
from mainspring.stats.auc import delong_difference
from mainspring.stats.loss import log_loss
from mainspring.store.tables import DeltaTables

FROZEN = "1"
KEYS = {"weather_hourly": "weather_id"} | dict.fromkeys(
    ("schedules", "departures", "landings"), "flight_id"
)
QUARANTINED_AT_MOST = 1_000
NOISE = 1.96
"""Standard errors that a month's served AUC may lie below the frozen model's."""


@dataclass(frozen=True, slots=True)
class Month:
    """One month of traffic: the served versions against the first one, frozen."""

    month: str
    rows: int
    late_share: float
    auc_live: float
    auc_frozen: float
    auc_error: float
    """Standard error of the difference of the two."""
    loss_live: float
    loss_frozen: float
    decided: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the demo promises to show, and whether it did."""

    text: str
    held: bool
    found: str


def months(replay: Replay, facts: list[FactLine], home: Home) -> list[Month]:
    """Compare what was served with what the first version would have said, month by month."""
    served = _served(replay, facts, home)
    decided = _decisions(facts)
    found = []
    for (month,), rows in served.group_by("month", maintain_order=True):
        known = rows.filter(pl.col("label").is_not_null())
        y = known["label"].to_numpy()
        live, frozen = known["score"].to_numpy(), known["frozen"].to_numpy()
        compared = delong_difference(y, live, frozen)
        found.append(
            Month(
                month=str(month),
                rows=rows.height,
                late_share=float(y.mean()),
                auc_live=compared.first,
                auc_frozen=compared.second,
                auc_error=compared.se,
                loss_live=log_loss(y, live),
                loss_frozen=log_loss(y, frozen),
                decided=tuple(text for at, text in decided if f"{at:%Y-%m}" == month),
            )
        )
    return found


def _served(replay: Replay, facts: list[FactLine], home: Home) -> pl.DataFrame:
    """Join answers, labels and the frozen model's scores on the very features that were used."""
    got = replay.predictions.served
    answers = pl.DataFrame(
        {
            "prediction": got.predictions,
            "flight_id": got.keys,
            "score": got.scores,
            "due": pl.concat(got.times),
        }
    )
    labels = replay.flights.labels.rows.select("flight_id", label="late")
    return (
        answers.join(labels, on="flight_id", how="left")
        .join(_frozen(facts, home), on="prediction", how="left")
        # A day is closed at its end, so midnight belongs to the month it ends.
        .with_columns(month=pl.col("due").dt.offset_by("-1us").dt.strftime("%Y-%m"))
        .sort("due", "flight_id")
    )


def _frozen(facts: list[FactLine], home: Home) -> pl.DataFrame:
    """Score the logged features with the first version, both read from the home's own files."""
    manifest = next(
        fact.body["manifest"]
        for fact in facts
        if fact.event == "Registered" and fact.body["version"] == FROZEN
    )
    model = OnnxModel.load(home, DEFAULT_PROJECT, Digest(manifest))
    folder = home.tables(DEFAULT_PROJECT)
    tables = DeltaTables(folder)
    found = sorted(path.name for path in folder.glob(f"predictions.{ENDPOINT}.*"))
    names = {f"f_{name}": name for name in model.inputs}
    logged = pl.concat([tables.read(name).select("prediction", "row", *names) for name in found])
    rows = logged.rename(names).collect()
    return pl.DataFrame(
        {
            "prediction": rows.select(pl.format("{}:{}", "prediction", "row")).to_series(),
            "frozen": model.score_frame(rows),
        }
    )


def _decisions(facts: list[FactLine]) -> list[tuple[datetime, str]]:
    """Tell in words what the loop decided and why, in the endpoint's time."""
    told = []
    for fact in facts:
        body: dict[str, Any] = fact.body
        match fact.event:
            case "Alarmed":
                told.append((body["opened"], f"alarm {body['monitor']}"))
            case "Judged":
                against = f" against {body['champion']}" if body["champion"] else ""
                told.append(
                    (body["slice_end"], f"gate {body['candidate']}: {body['outcome']}{against}")
                )
            case "Promoted":
                told.append((body["at"], f"live {body['version']} ({body['kind']})"))
            case "RolledBack":
                told.append((body["at"], f"back from {body['candidate']}"))
            case _:
                continue
    return [(_instant(at), text) for at, text in told]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def claims(replay: Replay, table: list[Month], facts: list[FactLine]) -> list[Claim]:
    """Check everything the demo promises."""
    by_event: dict[str, list[FactLine]] = {}
    for fact in facts:
        by_event.setdefault(fact.event, []).append(fact)
    return [
        _quarantine(replay),
        _answers(replay),
        _paid(by_event, table),
        _refused(replay, by_event),
        _swapped(replay, by_event),
        _calendar(replay, by_event),
        _never_below(table),
        _audit(replay),
    ]


def _quarantine(replay: Replay) -> Claim:
    planted = {(one.dataset, one.key, one.reason) for one in replay.broken if _arrived(replay, one)}
    found = set()
    for name in DATASETS:
        for row in replay.client.quarantined(name, version=None, limit=QUARANTINED_AT_MOST).rows:
            found.add((name, row[KEYS[name]], row["reason"]))
    return Claim(
        "exactly the planted broken rows are quarantined, each with its reason",
        found == planted,
        f"{len(found)} quarantined, {len(planted)} planted, {len(found ^ planted)} differ",
    )


def _arrived(replay: Replay, broken: Broken) -> bool:
    return broken.known_at <= replay.until


def _answers(replay: Replay) -> Claim:
    got = replay.predictions.served
    counted = replay.client.counts(ENDPOINT)
    logged = counted.predictions
    return Claim(
        "every caller got an answer, and every answer is in the log once",
        got.unanswered == 0 and logged == len(got.scores) and counted.left_out == 0,
        f"{len(got.scores)} rows in {got.requests} requests, {got.unanswered} without an answer, "
        f"{logged} logged, {counted.left_out} left out, {counted.repeats} of repeated requests, "
        f"{got.fallbacks} requests in which the live arm stepped in for a failed one",
    )


def _paid(by_event: dict[str, list[FactLine]], table: list[Month]) -> Claim:
    promoted = [f for f in by_event.get("Promoted", []) if f.body["kind"] != "first"]
    better = [m.month for m in table if m.auc_live - m.auc_frozen > NOISE * m.auc_error]
    return Claim(
        "a promotion paid: served AUC above the frozen model's beyond noise",
        bool(promoted) and bool(better),
        f"{len(promoted)} promotions; better in {', '.join(better) or 'no month'}",
    )


def _refused(replay: Replay, by_event: dict[str, list[FactLine]]) -> Claim:
    broken = {replay.planted.swapped, *replay.planted.calendar}
    refused = [
        f.body["candidate"]
        for f in by_event.get("Judged", [])
        if f.body["outcome"] == "fail" and f.body["candidate"] not in broken
    ]
    return Claim(
        "a challenger was refused by the gate",
        bool(refused),
        f"versions {', '.join(refused) or 'none'}",
    )


def _swapped(replay: Replay, by_event: dict[str, list[FactLine]]) -> Claim:
    version = replay.planted.swapped
    spoken = [f for f in by_event.get("Judged", []) if f.body["candidate"] == version]
    return Claim(
        "a candidate with swapped features was refused by the gate",
        bool(spoken) and all(f.body["outcome"] == "fail" for f in spoken),
        spoken[-1].body["reason"] if spoken else "it was never judged",
    )


def _calendar(replay: Replay, by_event: dict[str, list[FactLine]]) -> Claim:
    back = [
        f.body
        for f in by_event.get("RolledBack", [])
        if f.body["candidate"] in replay.planted.calendar
    ]
    return Claim(
        "a candidate that is good offline and fails in production was rolled back by its guard",
        any("errors" in body["reason"] for body in back)
        and replay.predictions.served.unanswered == 0,
        back[-1]["reason"] if back else "it was never rolled back",
    )


def _never_below(table: list[Month]) -> Claim:
    below = [m.month for m in table if m.auc_frozen - m.auc_live > NOISE * m.auc_error]
    return Claim(
        "in no month is the served AUC below the frozen model's beyond noise",
        not below,
        f"below in {', '.join(below) or 'none'} of {len(table)} months",
    )


def _audit(replay: Replay) -> Claim:
    answer = replay.client.verify()
    found = "; ".join(answer.findings) or f"{answer.facts} facts, {answer.rows} derived rows"
    return Claim("the ledger is whole and replay gives the tables", answer.ok, found)
