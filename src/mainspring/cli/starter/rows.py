"""The starter project's rows: made here, so that it works without a network."""

import csv
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, MACHINES = 90, 60
READINGS = ["reading_id", "machine", "measured_at", "received_at", "temperature", "vibration",
            "load", "age"]  # fmt: skip
STOPS = ["reading_id", "measured_at", "known_at", "stopped"]


def write_rows(directory: Path, *, seed: int = 1) -> list[str]:
    """Write `readings.csv` and `stops.csv`; a few readings are broken, to be quarantined."""
    made = list(_rows(random.Random(seed)))
    _write(directory / "readings.csv", READINGS, [reading for reading, _ in made])
    _write(directory / "stops.csv", STOPS, [stop for _, stop in made])
    return ["readings.csv", "stops.csv"]


def _rows(chance: random.Random) -> Iterator[tuple[list[object], list[object]]]:
    ages = [chance.uniform(0, 12) for _ in range(MACHINES)]
    for number in range(DAYS * MACHINES):
        day, machine = divmod(number, MACHINES)
        measured = START + timedelta(days=day, minutes=20 * machine)
        load = round(chance.betavariate(3, 2), 4)
        temperature = round(chance.gauss(55 + 25 * load, 4), 2)
        vibration = round(abs(chance.gauss(1 + ages[machine] / 6, 0.5)), 3)
        risk = 0.9 * vibration + 0.08 * (temperature - 70) + 1.5 * load - 4.2
        stopped = int(chance.random() < 1 / (1 + math.exp(-risk)))
        name = f"r{number:05d}"
        shown = 1.7 if number % 997 == 500 else load
        reading: list[object] = [
            name, f"m{machine:02d}", measured.isoformat(),
            (measured + timedelta(minutes=2)).isoformat(), temperature, vibration, shown,
            round(ages[machine], 2),
        ]  # fmt: skip
        known = measured + timedelta(hours=20)
        yield reading, [name, measured.isoformat(), known.isoformat(), stopped]


def _write(file: Path, header: list[str], rows: list[list[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows(rows)
