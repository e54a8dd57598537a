"""The world of the small project: rows, day by day, from a seed; at a day the truth turns round."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

START = datetime(2026, 3, 1, tzinfo=UTC)
MACHINES = ("m1", "m2", "m3")
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SmallWorld:
    """Rows per day, and the days between which load protects instead of harming."""

    seed: int = 5
    rows_a_day: int = 120
    turns_on: int = 14
    back_on: int = 10_000

    def parts(self, day: int) -> pl.DataFrame:
        """Parts used on a day; they are known an hour before."""
        chance = np.random.default_rng([self.seed, day])
        rows = self.rows_a_day
        minute = np.sort(chance.choice(24 * 60, rows, replace=False))
        used = [START + day * DAY + timedelta(minutes=int(m) + 1) for m in minute]
        return pl.DataFrame(
            {
                "part_id": [f"p{day:03d}-{number:04d}" for number in range(rows)],
                "machine": chance.choice(MACHINES, rows).tolist(),
                "used_at": used,
                "known_at": [at - timedelta(hours=1) for at in used],
                "load": np.round(chance.normal(0, 1, rows), 4),
                "day": [day] * rows,
            }
        ).with_columns(_in_us("used_at"), _in_us("known_at"))

    def shocks(self, day: int) -> pl.DataFrame:
        """Shocks felt on a day; told two minutes later."""
        chance = np.random.default_rng([self.seed, day, 1])
        minute = np.sort(chance.choice(24 * 60, 40, replace=False))
        felt = [START + day * DAY + timedelta(minutes=int(m)) for m in minute]
        return pl.DataFrame(
            {
                "shock_id": [f"s{day:03d}-{number:03d}" for number in range(40)],
                "machine": chance.choice(MACHINES, 40).tolist(),
                "felt_at": felt,
                "told_at": [at + timedelta(minutes=2) for at in felt],
                "force": np.round(chance.exponential(1, 40), 3),
            }
        ).with_columns(_in_us("felt_at"), _in_us("told_at"))

    def failures(self, day: int) -> pl.DataFrame:
        """What became of the parts used on a day; seen six hours later."""
        parts = self.parts(day)
        chance = np.random.default_rng([self.seed, day, 2])
        sign = -1.0 if self.turns_on <= day < self.back_on else 1.0
        risk = 1 / (1 + np.exp(-(sign * 2.0 * parts["load"].to_numpy() - 0.3)))
        return parts.select(
            "part_id",
            "used_at",
            seen_at=pl.col("used_at") + pl.duration(hours=6),
            failed=pl.Series((chance.random(parts.height) < risk).astype(np.int64)),
        )


def _in_us(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Datetime("us", "UTC"))
