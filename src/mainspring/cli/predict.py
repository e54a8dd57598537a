"""Predictions for a file of rows, by an endpoint that is up."""

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from mainspring.cli.session import DEFAULTS, Common, home_of, settings
from mainspring.core.errors import InvalidInput, NotFound, Unavailable
from mainspring.core.ids import DEFAULT_PROJECT

if TYPE_CHECKING:
    import polars as pl

    from mainspring.core.config import Config

VALUES_AT_ONCE = 16_000
ROWS_AT_ONCE = 1_000
_PATIENCE_S = 60.0
_KEY, _EVENT_TIME = "__key__", "__event_time__"


def predict(
    endpoint: str,
    file: Path,
    /,
    *,
    output: Path | None = None,
    key: str | None = None,
    event_time: str | None = None,
    url: str | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Ask an endpoint for predictions of a file's rows; each is recorded like any other.

    Args:
        endpoint: Its name.
        file: CSV, Parquet or JSON lines; what the endpoint does not take is kept and not sent.
        output: CSV, Parquet or JSON lines: the rows with their predictions; default: CSV to here.
        key: Column that has each row's key, by which labels are joined later.
        event_time: Column that has each row's event time, RFC 3339 with a zone.
        url: Address of an inference worker; default: of the platform that is up in this home.
        common: Options of every command.

    Returns:
        0 when every row has a prediction, 1 when some have none.
    """
    from mainspring.pipelines.row_files import check_ending, reading, scanned

    rows = scanned(file)
    if output is not None:
        check_ending(output)
    config, _, directory = settings(common)
    asking = _Asking(url or _address(home_of(config, directory)), config, endpoint)
    sent = {name: name for name in asking.columns()}
    sent |= {new: old for new, old in ((_KEY, key), (_EVENT_TIME, event_time)) if old is not None}
    with reading(file):
        present = rows.collect_schema().names()
    missing = [old for old in sent.values() if old not in present]
    if missing:
        raise InvalidInput(
            f"file {file.name!r}: column {missing[0]!r} is missing; found {', '.join(present)}"
        )
    at_once = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // len(sent)))
    with closing(asking), reading(file):
        # A batch at a time: neither rows nor answers are ever all in memory.
        answered = (
            (batch, asking.answers(_sent(batch, sent)))
            for batch in rows.collect_batches(chunk_size=at_once, maintain_order=True)
            if batch.height
        )
        count, failed = _written(answered, rows, output)
    told = {"rows": count, "failed": failed}
    text = json.dumps(told) if common.json else f"{count} rows, {failed} without a prediction"
    print(text, file=sys.stderr if output is None else sys.stdout)
    return 1 if failed else 0


class _Asking:
    """One kept connection to an inference worker."""

    def __init__(self, url: str, config: "Config", endpoint: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=_PATIENCE_S
        )
        prefix = "" if config.project == DEFAULT_PROJECT else f"/p/{quote(config.project)}"
        self._metadata = f"{prefix}/v1/models/{quote(endpoint, safe='')}/metadata"
        self._invocations = f"{prefix}/endpoints/{quote(endpoint, safe='')}/invocations"
        self._headers = {"Content-Type": "application/json"}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token}"

    def columns(self) -> list[str]:
        """Give the columns that the endpoint takes."""
        found = self._ask("GET", self._metadata, None)
        definition = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
        return list(definition["inputs"])

    def answers(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        """Give a frame of answers, a row per row."""
        import polars as pl

        split = {"columns": rows.columns, "data": [list(row) for row in rows.rows()]}
        found = self._ask("POST", self._invocations, {"dataframe_split": split})
        about = found["mainspring"]
        return pl.DataFrame(
            {
                "score": pl.Series(found["predictions"], dtype=pl.Float64),
                "version": _each(about["versions"], rows.height),
                "arm": _each(about["arms"], rows.height),
                "prediction": [f"{about['prediction_id']}:{i}" for i in range(rows.height)],
            }
        )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        content = None if body is None else json.dumps(body, default=_text).encode()
        try:
            self._connection.request(method, path, content, self._headers)
            answer = self._connection.getresponse()
            told = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(
                f"inference at {self._connection.host}:{self._connection.port}: {error}; start it "
                "with `mainspring up` or `mainspring serve`, or name it with --url"
            ) from error
        if answer.status != http.client.OK:
            said = told.get("message") or told.get("error")
            raise (NotFound if answer.status == http.client.NOT_FOUND else InvalidInput)(str(said))
        return told


def _sent(batch: "pl.DataFrame", columns: Mapping[str, str]) -> "pl.DataFrame":
    """Give what is sent of a batch: columns by the name they go under; keys are texts."""
    import polars as pl

    sent = batch.select(**columns)
    return sent.cast({_KEY: pl.String}) if _KEY in columns else sent


def _text(value: Any) -> str:
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _address(home: Any) -> str:
    from mainspring.supervisor.roster import read_roster

    roster = read_roster(home)
    if roster is None:
        raise Unavailable(
            "inference: nothing is up in this home; start it with `mainspring up`, or name an "
            "address with --url"
        )
    return roster.inference_url


def _each(values: str | list[str], rows: int) -> list[str]:
    return [values] * rows if isinstance(values, str) else values


def _written(
    answered: "Iterator[tuple[pl.DataFrame, pl.DataFrame]]",
    rows: "pl.LazyFrame",
    output: Path | None,
) -> tuple[int, int]:
    """Write rows with their answers as they come; gives how many, and how many have none."""
    import polars as pl

    count = failed = 0
    kept: list[pl.DataFrame] = []
    whole = output is not None and output.suffix == ".parquet"
    target: Any = sys.stdout.buffer if output is None or whole else output.open("wb")
    try:
        for batch, answers in answered:
            failed += answers["score"].null_count()
            if whole:
                kept.append(answers)
            elif output is None or output.suffix == ".csv":
                content = pl.concat([batch, answers], how="horizontal")
                target.write(content.write_csv(include_header=count == 0).encode())
            else:
                content = pl.concat([batch, answers], how="horizontal")
                target.write(content.write_ndjson().encode())
            count += batch.height
    finally:
        target.flush()
        if target is not sys.stdout.buffer:
            target.close()
    if output is not None and whole and kept:
        # A Parquet file is written in one go: the answers wait, the rows are read once more.
        joined = pl.concat([rows, pl.concat(kept).lazy()], how="horizontal")
        joined.sink_parquet(output)
    return count, failed
