"""Commands of endpoints."""

from datetime import UTC, datetime

from cyclopts import App

from mainspring.cli.printing import print_answer, print_rows
from mainspring.cli.session import DEFAULTS, Common, opened

READING = ["monitor", "start", "subject", "metric", "value", "expected", "rows"]

endpoint = App(name="endpoint", help="Look at endpoints and decide what waits for a person.")


@endpoint.command
def show(name: str, /, *, common: Common = DEFAULTS) -> None:
    """Show an endpoint: arms, verdicts, rollouts, alarms and readings.

    Args:
        name: Name of the endpoint.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.endpoint(name)
    if common.json:
        print_answer(answer, as_json=True)
        return
    print(f"{answer.name}: live {answer.live or '-'} at {answer.now or '-'}; {answer.waiting}")
    for title, rows, columns in (
        ("versions", answer.versions, ["version", "state", "until", "verdict", "reason"]),
        ("rollouts", answer.rollouts, ["candidate", "kind", "state", "share", "started", "reason"]),
        ("alarms", answer.alarms, ["monitor", "version", "opened", "ended", "cause", "message"]),
        ("readings", answer.readings[-12:], READING),
    ):
        print(f"\n{title}")
        print_rows(rows, columns, as_json=False, empty="  none")


@endpoint.command
def advance(name: str, /, *, until: datetime, common: Common = DEFAULTS) -> None:
    """Move an endpoint's watermark on and let its loop settle.

    Args:
        name: Name of the endpoint.
        until: Everything that arrived up to this instant has been sent; UTC unless it says so.
        common: Options of every command.
    """
    instant = until if until.tzinfo else until.replace(tzinfo=UTC)
    with opened(common) as client:
        print_answer(client.advance(name, instant), as_json=common.json)


@endpoint.command
def approve(name: str, version: str, /, *, comment: str, common: Common = DEFAULTS) -> None:
    """Agree to a rollout that waits for a person.

    Args:
        name: Name of the endpoint.
        version: The candidate.
        comment: Why.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.answer_approval(name, version, True, comment), as_json=common.json)


@endpoint.command
def reject(name: str, version: str, /, *, comment: str, common: Common = DEFAULTS) -> None:
    """Decline a rollout that waits for a person.

    Args:
        name: Name of the endpoint.
        version: The candidate.
        comment: Why.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.answer_approval(name, version, False, comment), as_json=common.json)


@endpoint.command
def rollback(name: str, /, *, comment: str, common: Common = DEFAULTS) -> None:
    """End the open rollout; the live version stays.

    Args:
        name: Name of the endpoint.
        comment: Why.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.roll_back(name, comment), as_json=common.json)


@endpoint.command
def promote(name: str, version: str, /, *, comment: str, common: Common = DEFAULTS) -> None:
    """Make a version live at once that has passed the gate against the present one.

    Args:
        name: Name of the endpoint.
        version: A version whose last verdict is a pass.
        comment: Why the rollout is left out.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.promote(name, version, comment), as_json=common.json)
