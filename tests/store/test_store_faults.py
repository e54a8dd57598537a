"""Kills and full disks: what was acknowledged is there, what was refused left no trace."""

import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import text

from mainspring.core.clock import FrozenClock
from mainspring.core.ids import IdSource
from mainspring.store.database import Database
from mainspring.store.ledger import Ledger
from mainspring.store.tables import DeltaTables

OPEN = """
import sys, threading
from pathlib import Path
from sqlalchemy import Column, Integer, MetaData, String, Table, insert
from mainspring.core.clock import SystemClock
from mainspring.core.errors import StorageFull
from mainspring.core.events import Granted
from mainspring.core.ids import IdSource, Subject
from mainspring.store.chain import METADATA
from mainspring.store.database import Database
from mainspring.store.ledger import Derivation, Ledger

home = Path(sys.argv[1])
clock = SystemClock()
SEEN = Table("seen", MetaData(), Column("seq", Integer, primary_key=True), Column("n", String(64)))

def derive(connection, fact):
    connection.execute(insert(SEEN), {"seq": fact.seq, "n": fact.event.name[:64]})

database = Database.open(home / "m.db", clock=clock)
database.write(METADATA.create_all)
database.write(SEEN.metadata.create_all)
ledger = Ledger(database, clock=clock, ids=IdSource(clock),
                derivations=[Derivation((SEEN,), derive)], head=home / "ledger.head")
"""

APPEND_UNTIL_KILLED = (
    OPEN
    + """
def work(thread):
    n = 0
    while True:
        name = f"{sys.argv[2]}-{thread}-{n}"
        event = Granted(name=name, role="viewer")
        fact = ledger.append(Subject("default", "actor", name), event, actor="a")
        sys.stdout.write(f"{fact.seq} {name}\\n")
        sys.stdout.flush()
        n += 1

for thread in range(3):
    threading.Thread(target=work, args=(thread,)).start()
"""
)


def _kill_after(script: str, *arguments: str, wait_s: float) -> list[str]:
    """Run a script, kill it some time after its first line, and give its whole lines."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    return [line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.slow
def test_facts_acknowledged_before_a_kill_are_all_there_and_chained(tmp_path: Path) -> None:
    seeded = random.Random(2013)
    acknowledged: dict[int, str] = {}
    for round_number in range(15):
        lines = _kill_after(
            APPEND_UNTIL_KILLED,
            str(tmp_path),
            str(round_number),
            wait_s=seeded.uniform(0.0, 0.08),
        )
        entries = dict(line.split() for line in lines)
        assert len(entries) == len(lines) > 0
        acknowledged |= {int(seq): name for seq, name in entries.items()}

    clock = FrozenClock(datetime(2013, 1, 1, tzinfo=UTC))
    with Database.open(tmp_path / "m.db", clock=clock) as database:
        ledger = Ledger(
            database,
            clock=clock,
            ids=IdSource(clock),
            derivations=[],
            head=tmp_path / "ledger.head",
        )
        report = ledger.verify()
        stored = {fact.seq: fact.subject.name for fact in ledger.facts(limit=10**6)}
        with database.read() as connection:
            derived = dict(map(tuple, connection.execute(text("SELECT seq, n FROM seen"))))
            integrity = connection.execute(text("PRAGMA integrity_check")).scalar()

    assert report.findings == ()
    assert acknowledged.items() <= stored.items()
    # At most the writes of three threads were under way at each of the kills.
    assert len(stored) - len(acknowledged) <= 15 * 3
    assert derived == stored
    assert integrity == "ok"


APPEND_TABLE_UNTIL_KILLED = """
import sys
from pathlib import Path
import polars as pl
from mainspring.store.tables import DeltaTables
tables = DeltaTables(Path(sys.argv[1]))
n = (tables.landed("t", "w") or 0) + 1
while True:
    version = tables.append("t", pl.DataFrame({"x": [n, n]}), writer="w", number=n)
    sys.stdout.write(f"{n} {version}\\n")
    sys.stdout.flush()
    n += 1
"""


@pytest.mark.slow
def test_rows_acknowledged_before_a_kill_are_there_once_at_their_version(tmp_path: Path) -> None:
    seeded = random.Random(2014)
    acknowledged: dict[int, int] = {}
    for _ in range(8):
        lines = _kill_after(
            APPEND_TABLE_UNTIL_KILLED, str(tmp_path), wait_s=seeded.uniform(0.0, 0.15)
        )
        acknowledged |= {int(n): int(version) for n, version in map(str.split, lines)}

    tables = DeltaTables(tmp_path)
    landed = tables.landed("t", "w")
    assert landed is not None
    repeated = {
        n: tables.append("t", pl.DataFrame({"x": [0]}), writer="w", number=n)
        for n in range(1, landed + 1)
    }
    rows = sorted(tables.read("t").collect()["x"].to_list())

    assert acknowledged.items() <= repeated.items()
    assert rows == sorted([*range(1, landed + 1), *range(1, landed + 1)])


FULL = """
import resource

def limited(bytes_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))

def refused(work):
    try:
        work()
    except StorageFull as error:
        print(error, file=sys.stderr)
        return
    raise SystemExit("the disk was not full")

def freed():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""

FULL_LEDGER = (
    OPEN
    + FULL
    + """
def append(name):
    event = Granted(name=name, role="viewer")
    return ledger.append(Subject("default", "actor", "anna"), event, actor="a")

append("before")
wal = (home / "m.db-wal").stat().st_size
limited(wal + 20_000)
for _ in range(3):
    refused(lambda: append("x" * 400_000))
assert [fact.event.name for fact in ledger.facts()] == ["before"]
assert ledger.verify().ok
limited(0)
refused(lambda: append("small"))
freed()
assert append("after").seq == 2
assert ledger.verify().ok
database.close()
"""
)

FULL_BLOBS = (
    "import os, sys\nfrom pathlib import Path\n"
    "from mainspring.core.errors import NotFound, StorageFull\n"
    "from mainspring.core.ids import digest_bytes\n"
    "from mainspring.store.blobs import FolderBlobs\n"
    + FULL
    + """
root = Path(sys.argv[1]) / "blobs"
blobs = FolderBlobs(root)
kept = blobs.put(b"kept")
big = b"big" * 100_000
source = Path(sys.argv[1]) / "source"
source.write_bytes(big)
limited(10_000)
refused(lambda: blobs.put(big))
refused(lambda: blobs.put_file(source))
assert os.listdir(root / "tmp") == []
try:
    blobs.get(digest_bytes(big))
except NotFound:
    pass
else:
    raise SystemExit("a torn blob is visible")
assert blobs.get(kept) == b"kept"
freed()
assert blobs.get(blobs.put_file(source)) == big
"""
)

FULL_TABLES = (
    "import os, sys\nfrom pathlib import Path\nimport polars as pl\n"
    "from mainspring.core.errors import StorageFull\n"
    "from mainspring.store.tables import DeltaTables\n"
    + FULL
    + """
root = Path(sys.argv[1])
tables = DeltaTables(root)
noise = pl.DataFrame({"x": [int.from_bytes(os.urandom(7)) for _ in range(50_000)]})
limited(20_000)
refused(lambda: tables.append("fresh", noise, writer="w", number=1))
assert tables.version("fresh") is None
freed()
tables.append("t", noise, writer="w", number=1)
# With 600 bytes a row's data file fits and its log entry does not.
for limit, rows in ((20_000, noise), (0, noise), (600, noise.head(1))):
    limited(limit)
    refused(lambda: tables.append("t", rows, writer="w", number=2))
    assert tables.version("t") == 0
    assert tables.landed("t", "w") == 1
assert tables.read("t").select(pl.len()).collect().item() == 50_000
freed()
assert len(list((root / "t").glob("*.parquet"))) == 2
assert tables.append("t", noise, writer="w", number=2) == 1
assert tables.append("fresh", noise, writer="w", number=1) == 0
"""
)


@pytest.mark.parametrize("script", [FULL_LEDGER, FULL_BLOBS, FULL_TABLES])
def test_a_full_disk_changes_nothing_and_writes_work_again_when_there_is_space(
    tmp_path: Path, script: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "free space and repeat" in done.stderr
