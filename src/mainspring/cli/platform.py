"""What is up, as `mainspring status` shows it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mainspring.cli.printing import print_rows

if TYPE_CHECKING:
    from mainspring.core.home import Home
    from mainspring.supervisor.roster import Roster


def platform_fields(roster: "Roster", home: "Home") -> dict[str, Any]:
    """Give addresses, processes, their memory, and what the workers complain of."""
    processes = _processes(roster)
    measured = [one["memory_mib"] for one in processes if one["memory_mib"] is not None]
    return {
        "url": roster.url,
        "inference_url": roster.inference_url,
        "pid": roster.pid,
        "started": roster.started,
        "memory_mib": round(sum(measured), 1),
        "processes": processes,
        "problems": _problems(home),
    }


def print_platform(roster: "Roster", home: "Home") -> None:
    """Print addresses, a table of the processes with the sum of their memory, and problems."""
    fields = platform_fields(roster, home)
    print(f"console and API  {fields['url']}")
    print(f"inference        {fields['inference_url']}\n")
    now = datetime.now(UTC)
    rows = [
        {
            **one,
            "memory": _mib(one["memory_mib"]),
            "up for": str(timedelta(seconds=(now - one["started"]) // timedelta(seconds=1))),
        }
        for one in fields["processes"]
    ]
    rows.append({"process": "together", "memory": _mib(fields["memory_mib"])})
    columns = ["process", "role", "pid", "state", "restarts", "up for", "memory"]
    print_rows(rows, columns, as_json=False, empty="")
    for problem in fields["problems"]:
        print(f"problem  {problem}")
    print()


def _processes(roster: "Roster") -> list[dict[str, Any]]:
    """List the supervisor and its children, each with the memory it takes now."""
    from mainspring.supervisor.roster import SUPERVISOR

    own = (SUPERVISOR, SUPERVISOR, roster.pid, "ready", 0, roster.started)
    children = [
        (one.name, one.role, one.pid, one.state, one.restarts, one.started)
        for one in roster.processes
    ]
    names = ("process", "role", "pid", "state", "restarts", "started")
    return [
        {**dict(zip(names, one, strict=True)), "memory_mib": _memory(one[2])}
        for one in (own, *children)
    ]


def _problems(home: "Home") -> list[str]:
    """List what live workers tell of: their files are read, so control need not be up."""
    from mainspring.formats.worker import alive, read_states

    states = [one for one in read_states(home) if alive(one)]
    said = [f"{one.worker}: {problem}" for one in states for problem in one.problems]
    return said + [
        f"{one.worker}: {one.left_out} rows were answered and left out of the request log, which "
        "the disk refused"
        for one in states
        if one.left_out
    ]


def _memory(pid: int) -> float | None:
    from mainspring.supervisor.memory import memory_mib

    found = memory_mib(pid) if pid else None
    return None if found is None else round(found, 1)


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} MiB"
