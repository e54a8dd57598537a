"""Commands of pipeline runs."""

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
def show(run_id: str, /, *, common: Common = DEFAULTS) -> None:
    """Show one run: what it read, logged and made.

    Args:
        run_id: Id of the run.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.run(run_id), as_json=common.json)
