"""Commands of pipeline runs."""

import json
from typing import Annotated

from cyclopts import App, Parameter

from mainspring.cli.printing import print_answer, print_rows
from mainspring.cli.session import DEFAULTS, Common, opened

run = App(name="run", help="Start and look at pipeline runs.")


@run.command
def start(
    endpoint: str,
    /,
    *,
    parameter: Annotated[list[str] | None, Parameter(alias="-p", negative="")] = None,
    token: str | None = None,
    common: Common = DEFAULTS,
) -> None:
    """Train a candidate for an endpoint now; the gate decides what becomes of it.

    Args:
        endpoint: Name of the endpoint.
        parameter: `name=value` of the pipeline, JSON or text; may be given several times.
        token: The same token again starts no second run.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.start_run(endpoint, parameter or [], token=token)
    print_answer(answer, as_json=common.json)


@run.command
def cancel(run_id: str, /, *, comment: str, common: Common = DEFAULTS) -> None:
    """End an open run without a result, and stop its process.

    Args:
        run_id: Id of the run.
        comment: Why; it stands in the ledger.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.cancel_run(run_id, comment), as_json=common.json)


@run.command
def logs(
    run_id: str,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative="")] = False,
    common: Common = DEFAULTS,
) -> None:
    """Print what a run's steps printed and logged, one line `<time> <step> <stream> | <text>`.

    Args:
        run_id: Id of the run.
        follow: Go on as it is written, until the run has ended.
        common: Options of every command.
    """
    with opened(common) as client:
        for line in client.run_output(run_id, follow=follow):
            print(json.dumps(line, ensure_ascii=False) if common.json else line, flush=True)


@run.command(name="list")
def list_(*, endpoint: str | None = None, common: Common = DEFAULTS) -> None:
    """List runs, newest first.

    Args:
        endpoint: Only of this endpoint.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.runs(endpoint)
    columns = ["run", "endpoint", "trigger", "state", "version", "until", "message"]
    print_rows(answer.runs, columns, as_json=common.json, empty="no runs yet")


@run.command
def diff(first: str, second: str, /, *, common: Common = DEFAULTS) -> int:
    """Say what two runs differ in: code, data, parameters, environment, metrics, artifacts, tags.

    Args:
        first: Id of a run, of a pipeline or of an mlflow client.
        second: Id of another.
        common: Options of every command.

    Returns:
        0 when all that is recorded of them is the same, 1 when something is not.
    """
    with opened(common) as client:
        found = client.diff(first, second)
    columns = ["part", "name", "first", "second", "change"]
    nothing = "all that is recorded of them is the same"
    print_rows(found.differences, columns, as_json=common.json, empty=nothing)
    return 1 if found.differences else 0


@run.command
def show(run_id: str, /, *, common: Common = DEFAULTS) -> None:
    """Show one run: what it read, logged and made.

    Args:
        run_id: Id of the run.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.run(run_id), as_json=common.json)
