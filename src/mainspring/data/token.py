"""The token of a commit: who writes, and a number that grows."""

from dataclasses import dataclass

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import checked_name

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Token:
    """Names one commit, so that repeating it has no second effect; printed `writer:number`."""

    writer: str
    number: int

    def __str__(self) -> str:
        return f"{self.writer}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Read the printed form.

        Raises:
            InvalidInput: It has no number behind its last colon, or the writer is no name.
        """
        writer, _, number = text.rpartition(":")
        if not (number.isascii() and number.isdigit() and int(number) <= _LARGEST):
            raise InvalidInput(
                f"token {text!r}: expected a writer's name, a colon and a number that grows with "
                "each commit of this writer, such as 'loader:20130401'"
            )
        return cls(checked_name(writer, what="writer"), int(number))
