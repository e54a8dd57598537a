"""Commands that start and end the platform's processes."""

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.cli.session import DEFAULTS, Common, home_of, settings
from mainspring.core.errors import TimedOut

if TYPE_CHECKING:
    from mainspring.supervisor.roster import Roster

_EXTRA_S = 5.0
_LOOK_S = 0.05


def up(
    *,
    host: str | None = None,
    port: int | None = None,
    inference_port: int | None = None,
    grpc_port: int | None = None,
    workers: int | None = None,
    common: Common = DEFAULTS,
) -> int:
    """Start the platform and keep it up until Ctrl-C, SIGTERM or `mainspring down`.

    Args:
        host: Address to listen on.
        port: Port of the API and the console; 0 takes a free one.
        inference_port: Port of the inference workers; 0 takes a free one.
        grpc_port: Port of their gRPC; 0 takes a free one, without it they speak none.
        workers: Inference worker processes.
        common: Options of every command.

    Returns:
        0 when all ended in order, 1 when a second signal cut that short.
    """
    from mainspring.core.clock import SystemClock
    from mainspring.supervisor.launch import Plan
    from mainspring.supervisor.sockets import is_loopback
    from mainspring.supervisor.up import supervise

    flags = {
        "host": host,
        "port": port,
        "inference_port": inference_port,
        "grpc_port": grpc_port,
        "workers": workers,
    }
    config, _, directory = settings(common, flags=flags)
    home = home_of(config, directory)
    plan = Plan(
        config=config,
        home=home,
        directory=directory.absolute(),
        environment=os.environ,
        public=not is_loopback(config.host) and _has_token(home.database),
    )

    def announce(roster: "Roster") -> None:
        _print_addresses(roster, home.root, as_json=common.json)

    return supervise(plan, clock=SystemClock(), announce=announce)


def down(*, common: Common = DEFAULTS) -> None:
    """End the platform: work that has begun is finished, and the home is free afterwards.

    Args:
        common: Options of every command.
    """
    from mainspring.supervisor.roster import supervisor_of

    config, _, directory = settings(common)
    home = home_of(config, directory)
    holder = supervisor_of(home)
    if holder is not None:
        os.kill(holder.pid, signal.SIGTERM)
        wait_s = config.drain_s + _EXTRA_S
        deadline_s = time.monotonic() + wait_s
        while supervisor_of(home) == holder:
            if time.monotonic() > deadline_s:
                raise TimedOut(
                    f"supervisor {holder.pid}: still there {wait_s:g} s after SIGTERM; it goes on "
                    "ending its processes, a second `mainspring down` cuts that short"
                )
            time.sleep(_LOOK_S)
    _print_down(None if holder is None else holder.pid, home.root, as_json=common.json)


def _has_token(database: Path) -> bool:
    """Look for an access token without opening the platform: the supervisor stays small."""
    import sqlite3
    from contextlib import closing
    from urllib.parse import quote

    try:
        file = f"file:{quote(str(database))}?mode=ro"
        with closing(sqlite3.connect(file, uri=True)) as connection:
            return connection.execute("SELECT 1 FROM token LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        # No database, or none that can be read, holds no token that could be checked.
        return False


def _print_addresses(roster: "Roster", home: Path, *, as_json: bool) -> None:
    import json

    answer = {
        "url": roster.url,
        "inference_url": roster.inference_url,
        **({"grpc_address": roster.grpc_address} if roster.grpc_address else {}),
        "pid": roster.pid,
        "home": str(home),
    }
    if as_json:
        print(json.dumps(answer), flush=True)
        return
    print(f"console and API  {roster.url}")
    print(f"inference        {roster.inference_url}")
    if roster.grpc_address:
        print(f"gRPC             {roster.grpc_address}")
    print(f"home             {home}, held by process {roster.pid}; Ctrl-C ends it", flush=True)


def _print_down(pid: int | None, home: Path, *, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps({"ended": pid}))
    elif pid is None:
        print(f"nothing is up in {home}")
    else:
        print(f"ended process {pid}; {home} is free")
