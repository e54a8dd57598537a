"""A run process is there before its run, and is never one that should not be."""

import os
import sys
from collections.abc import Callable

from tests.supervisor.supervisor_platform import Platform, gone, until

Up = Callable[..., Platform]
SPARE = "run-spare"


def with_spare(up: Up, **settings: object) -> tuple[Platform, str, int]:
    """Have a run end that tells what it had loaded; give the spare's process id."""
    platform = up(workers=1, ways={"R1": "lends"}, **settings)
    url = platform.ready().url
    platform.start_run(url, "r1")
    until(lambda: platform.processes().get(SPARE) and platform.process(SPARE).state == "ready")
    return platform, url, platform.process(SPARE).pid


def test_none_is_there_before_the_first_run(up: Up) -> None:
    platform = up(workers=1)
    platform.ready()

    assert SPARE not in platform.processes()


def test_the_next_run_begins_in_it_and_it_knows_what_the_last_one_had_loaded(up: Up) -> None:
    platform, url, spare = with_spare(up)

    platform.start_run(url, "r2")
    run = platform.process("run-r2")

    told = platform.trace("Welcome")
    first = next(one["detail"]["welcome"] for one in told if one["pid"] == spare)
    second = until(lambda: [one for one in platform.trace("Welcome") if "modules" in one["detail"]])
    assert run.pid == spare
    assert (first["assignment"], first["modules"]) == (None, ["json"])
    assert [one["detail"]["assignment"]["run"] for one in second if one["pid"] == spare] == ["r2"]
    assert SPARE not in platform.processes()


def test_it_is_thrown_away_when_a_library_was_installed_meanwhile(up: Up) -> None:
    platform, url, spare = with_spare(up)
    (platform.home.root / "libraries" / "installed-since").mkdir()

    platform.start_run(url, "r2")

    assert platform.process("run-r2").pid != spare
    until(lambda: gone(spare))


def test_another_interpreter_does_not_get_it(up: Up) -> None:
    platform, url, spare = with_spare(up)

    platform.start_run(url, "r2", interpreter=sys.executable)

    assert platform.process("run-r2").pid != spare
    until(lambda: gone(spare))


def test_a_killed_one_is_not_given_to_a_run(up: Up) -> None:
    platform, url, spare = with_spare(up)

    os.kill(spare, 9)
    until(lambda: SPARE not in platform.processes())
    platform.start_run(url, "r2")

    assert platform.process("run-r2").pid != spare


def test_it_ends_after_its_time_and_at_once_with_the_platform(up: Up) -> None:
    short, _, first = with_spare(up, spare_run_s=0.5)
    until(lambda: gone(first))
    until(lambda: SPARE not in short.processes())
    short.terminate()
    assert short.end()[0] == 0


def test_the_end_of_the_platform_ends_it(up: Up) -> None:
    platform, _, spare = with_spare(up)

    platform.terminate()

    assert platform.end()[0] == 0
    until(lambda: gone(spare))


def test_there_is_none_where_it_is_not_wanted(up: Up) -> None:
    platform = up(workers=1, ways={"R1": "lends"}, spare_run_s=0.0)
    url = platform.ready().url

    platform.start_run(url, "r1")
    until(lambda: platform.trace("RunEnded"))

    assert SPARE not in platform.processes()
