"""Commands of registered models."""

from pathlib import Path

from cyclopts import App

from mainspring.cli.printing import print_answer
from mainspring.cli.session import DEFAULTS, Common, opened

model = App(name="model", help="Look at registered models.")


@model.command
def card(
    name: str, version: str, /, *, html: Path | None = None, common: Common = DEFAULTS
) -> None:
    """Write the card of a version: what it is for, what it was made from, how it was judged.

    Args:
        name: Of the model; an endpoint's has the endpoint's name.
        version: Its number.
        html: Write it to this file as a page that stands alone, instead of Markdown to here.
        common: Options of every command.
    """
    with opened(common) as client:
        found = client.card(name, version)
    if common.json:
        print_answer(found, as_json=True)
        return
    from mainspring.governance import card as cards

    if html is None:
        print(cards.markdown(found), end="")
    else:
        html.write_text(cards.html(found), "utf-8")
        print(html)
