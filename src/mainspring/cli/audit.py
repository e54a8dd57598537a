"""Commands that read the record: what happened, why, and whether it is whole."""

from cyclopts import App

from mainspring.cli.printing import print_answer, print_rows
from mainspring.cli.session import DEFAULTS, Common, opened

audit = App(name="audit", help="Check that the record is whole.")


def trace(prediction: str, /, *, common: Common = DEFAULTS) -> None:
    """Show how one prediction came about, down to rows, commit and approver.

    Args:
        prediction: Id of the prediction, `<id>` or `<id>:<row>`.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.trace(prediction)
    if common.json:
        print_answer(answer, as_json=True)
        return
    for section in answer.sections:
        print(section.title)
        for line in section.lines:
            print(f"    {line}")


def events(
    *, after: int = 0, limit: int = 50, subject: str | None = None, common: Common = DEFAULTS
) -> None:
    """List the ledger's facts, oldest first.

    Args:
        after: Number of the fact to begin behind.
        limit: Facts at most.
        subject: Only of this subject, `kind/name`.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.events(after=after, limit=limit, subject=subject)
    columns = ["seq", "at", "actor", "subject", "event", "cause"]
    print_rows(answer.facts, columns, as_json=common.json, empty="the ledger holds no fact yet")


@audit.command
def verify(*, common: Common = DEFAULTS) -> int:
    """Check the ledger's chain, and that the tables are what replaying it gives.

    Returns:
        0 when everything is whole, else 1.
    """
    with opened(common) as client:
        answer = client.verify()
    print_answer(answer, as_json=common.json)
    return 0 if answer.ok else 1
