"""A mistake is named, with what was found, what was expected and what to do; nothing changes."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from sqlite3 import connect
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

Edited = Callable[..., str]
HEADER = "reading_id,machine,measured_at,received_at,temperature,vibration,load,age\n"
ROW = "n1,m1,2026-04-02T00:00:00Z,2026-04-02T00:02:00Z,60.5,1.5,0.5,3.5\n"
VIEW = (
    "ms.FeatureView('view', entity='machine', source=readings, every='1h', "
    "features={'n': ms.count('6h')})"
)
SECOND = """
second = ms.Endpoint(
    "stop", rows=readings, time="event", request=INPUTS, label=stop.label, pipeline=stop_model,
    gate=stop.gate, rollout=stop.rollout,
)
"""

HOLDER = """
import sys
from pathlib import Path
from mainspring.store.lock import HomeLock
with HomeLock(Path(sys.argv[1]), role="loader"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("import mainspring as ms", "import = ms", ["project.py line 8", "correct the file"]),
        ("readings = ms", "readings = sm", ["project.py line 12", "NameError", "'sm'"]),
        ("source=stops", "source='stopz'", ["endpoint 'stop'", "'stopz'", "readings, stops"]),
        ("ms.between", "ms.betwen", ["project.py line", "betwen"]),
        ("import polars", "import nonesuch\nimport polars", ["project.py line", "nonesuch"]),
        ('wait="1d"', 'wait="soon"', ["project.py line", "'soon'"]),
        ("rows=readings,", "rows='reading',", ["endpoint 'stop'", "'reading'", "declared: "]),
    ],
)
def test_a_wrong_project_file_is_refused_with_its_place(
    edited: Edited, old: str, new: str, told: list[str]
) -> None:
    said = edited(old, new)

    assert said.startswith("invalid_declaration: ")
    assert [text for text in told if text not in said] == []


def test_a_view_whose_entity_no_request_carries_is_refused(edited: Edited) -> None:
    stop = 'stop = ms.Endpoint(\n    "stop",\n'
    said = edited(stop, f"view = {VIEW}\n{stop}    features=[view],\n")

    assert "endpoint 'stop': feature view 'view' is looked up by 'machine'" in said
    assert "add it to request, now temperature, " in said


def test_two_endpoints_of_a_name_are_refused(edited: Edited) -> None:
    said = edited("stop = ms.Endpoint(\n", "stop = ms.Endpoint(\n", SECOND)

    assert "endpoint 'stop' is declared twice; give each its own name" in said


def test_a_file_that_declares_nothing_takes_no_declaration_away(applied: "Shell") -> None:
    applied.write("other.py", "print\n")

    said = applied.refused("apply", "other.py")

    assert "declares no dataset" in said
    assert applied.json("status")["endpoints"][0]["endpoint"] == "stop"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER.replace("load", "lode") + ROW, ["dataset 'readings'", "['load']", "['lode']"]),
        (HEADER + ROW.replace("60.5", "hot"), ["'temperature'", "String", "Float64", "cast"]),
        (HEADER + ROW.replace("2026-04-02T00:00:00Z", "once"), ["'measured_at'", "aware time"]),
        (HEADER + ROW.replace("T00:00:00Z", ""), ["'measured_at'", "aware time"]),
        (HEADER, ["rows.csv", "no rows"]),
        ("", ["rows.csv", "correct the file"]),
        (HEADER + ROW.strip() + ",1,2\n", ["rows.csv", "correct the file"]),
    ],
)
def test_a_file_that_does_not_fit_becomes_no_version(
    applied: "Shell", text: str, told: list[str]
) -> None:
    applied.write("rows.csv", text)

    said = applied.refused("data", "commit", "readings", "rows.csv")

    assert [part for part in told if part not in said] == []
    assert len(applied.json("data", "log", "readings")) == 1
    # The lease of the refused commit is over: the next one need not wait.
    applied.write("good.csv", HEADER + ROW)
    assert applied.json("data", "commit", "readings", "good.csv")["version"] == 2


def test_broken_rows_are_kept_apart_from_good_ones(applied: "Shell") -> None:
    broken = ROW.replace("n1", "n2").replace("0.5,", "7,"), ROW.replace("n1,m1", "n3,"), ROW
    applied.write("rows.csv", HEADER + ROW + "".join(broken))

    done = applied.json("data", "commit", "readings", "rows.csv")
    refused = applied.json("data", "quarantine", "readings", "--version", "2")

    assert (done["version"], done["rows"], done["quarantined"]) == (2, 1, 3)
    assert {row["reason"] for row in refused} == {
        "between(load)",
        "not_null(machine)",
        "unique(reading_id)",
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.parquet", b"not parquet"),
        ("rows.jsonl", b"{not json"),
        ("rows.csv", b"\xff\xfe\x00"),
        ("rows.xlsx", b""),
    ],
)
def test_a_file_that_cannot_be_read_is_named(applied: "Shell", name: str, content: bytes) -> None:
    (applied.directory / name).write_bytes(content)

    said = applied.refused("data", "commit", "readings", name)

    assert said.startswith(("invalid_input: ", "schema_mismatch: "))
    assert "rows" in said


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("data commit readings none.csv", ["not_found", "none.csv", "check the path"]),
        ("data commit readers readings.csv", ["not_found", "'readers'", "declare"]),
        ("data commit ../x readings.csv", ["'../x'"]),
        ("data commit readings readings.csv --token x", ["invalid_input", "'x'", "colon"]),
        ("data log readers", ["not_found", "'readers'", "apply it"]),
        ("data quarantine readers", ["not_found", "'readers'", "apply it"]),
        ("data show readers", ["not_found", "'readers'"]),
        ("data show readings --version 9", ["not_found", "version 9", "list its versions"]),
        ("data show readings --rows 0", ["invalid_input", "limit 0", "1 to 10000"]),
        ("endpoint show none", ["not_found", "'none'", "apply it"]),
        ("endpoint advance none --until 2026-04-01", ["not_found", "'none'", "apply it"]),
        ("endpoint promote stop 9 --comment why", ["refused", "version 9", "gate"]),
        ("endpoint approve stop 9 --comment why", ["refused", "version 9", "none does"]),
        ("endpoint rollback stop --comment why", ["refused", "no rollout is open"]),
        ("run show none", ["not_found", "'none'"]),
        ("run start none", ["not_found", "'none'", "apply it"]),
        ("run start stop -p strength", ["invalid_input", "'strength'", "name=value"]),
        ("trace none", ["invalid_input", "'none'", "32 hex digits"]),
        (f"trace {'0' * 32}", ["not_found", "0" * 32]),
        ("events --limit 0", ["invalid_input", "limit 0", "1 to 10000"]),
        ("events --subject a/b/c", ["invalid_input", "b/c"]),
        ("apply none.py", ["not_found", "none.py", "mainspring init"]),
        ("status --project ../up", ["misconfigured", "'../up'"]),
        ("status --home elsewhere", ["not_found", "elsewhere", "mainspring apply"]),
    ],
)
def test_what_is_not_there_is_named_and_what_to_do(
    applied: "Shell", command: str, told: list[str]
) -> None:
    said = applied.refused(*command.split())

    assert [text for text in told if text not in said] == []


@pytest.mark.parametrize(
    "command",
    ["nope", "data", "data commit", "data commit readings", "run start stop --depth 3",
     "data show readings --rows many", "endpoint advance stop", "endpoint advance stop --until x",
     "endpoint promote stop 1"],
)  # fmt: skip
def test_wrong_usage_is_two(applied: "Shell", command: str) -> None:
    before = applied.facts()

    said = applied(*command.split())

    assert said.code == (0 if command == "data" else 2)
    assert applied.facts() == before


def test_a_setting_that_is_not_known_names_the_nearest(
    applied: "Shell", monkeypatch: pytest.MonkeyPatch
) -> None:
    applied.write("mainspring.toml", 'leese = "90s"\n')
    in_file = applied.refused("status")
    applied.write("mainspring.toml", "lease = \n")
    unreadable = applied.refused("status")
    applied.write("mainspring.toml", 'lease = "long"\n')
    ill_typed = applied.refused("config")
    applied.write("mainspring.toml", "")
    monkeypatch.setenv("MAINSPRING_HOMME", "x")
    in_environment = applied.refused("config")

    assert "mainspring.toml" in in_file
    assert "'lease'" in in_file
    assert "TOML" in unreadable
    assert "'long'" in ill_typed
    assert "MAINSPRING_HOMME" in in_environment
    assert "'home'" in in_environment


def test_a_look_leaves_nothing_behind(empty: "Shell") -> None:
    said = empty("status")

    assert said.code == 1
    assert "mainspring apply" in said.err
    assert list(empty.directory.iterdir()) == []


def test_a_home_of_another_process_is_left_alone_and_its_owner_named(applied: "Shell") -> None:
    lock = applied.directory / ".mainspring" / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        said = applied.refused("data", "commit", "stops", "stops.csv")
        holder.communicate("")

    assert f"process {holder.pid} (loader)" in said
    assert "stop it and repeat" in said
    assert applied.json("data", "commit", "stops", "stops.csv")["version"] == 1


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE ledger SET actor = 'somebody' WHERE seq = 2",
        "UPDATE ledger SET body = replace(body, '5395', '5396') WHERE seq = 2",
        "DELETE FROM ledger WHERE seq = 1",
        "DELETE FROM ledger WHERE seq = (SELECT max(seq) FROM ledger)",
        "UPDATE dataset_version SET rows = rows + 1",
    ],
)
def test_tampering_is_found(applied: "Shell", tampering: str) -> None:
    with closing(connect(applied.database)) as connection:
        changed = connection.execute(tampering).rowcount
        connection.commit()

    said = applied("audit", "verify")

    assert changed == 1
    assert said.code == 1
    assert said.out + said.err


def test_a_directory_that_cannot_be_written_is_named(empty: "Shell") -> None:
    empty.write("file", "")

    said = empty("init", "file/below")

    assert said.code == 1
    assert "file" in said.err
    assert "Traceback" not in said.err
