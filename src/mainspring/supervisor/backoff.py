"""How long to wait before a process that ended is started again."""

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Waits that double with every end, until a process lived long enough.

    >>> waits = Backoff()
    >>> [waits.after(lived_s=1.0) for _ in range(3)]
    [0.1, 0.2, 0.4]
    >>> waits.after(lived_s=31.0)
    0.1
    """

    first_s: float = 0.1
    longest_s: float = 10.0
    reset_s: float = 30.0
    _next_s: float = 0.0

    def after(self, *, lived_s: float) -> float:
        """Give the seconds to wait after a process that lived so long."""
        if self._next_s == 0.0 or lived_s >= self.reset_s:
            self._next_s = self.first_s
        wait_s = self._next_s
        self._next_s = min(wait_s * 2, self.longest_s)
        return wait_s
