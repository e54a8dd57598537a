"""The online features of a request's rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import MainspringError, NotFound
from mainspring.core.home import Home
from mainspring.formats.online import OnlineReader
from mainspring.formats.routes import EndpointRoute, ViewRef
from mainspring.formats.segment import ViewUse
from mainspring.serving.vectors import Vectors


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The vectors with the features added, what was used, and which view could not be read."""

    vectors: Vectors
    views: dict[str, ViewUse]
    problem: str | None


class Lookup:
    """Looks up the views of one route. A view that cannot be read is missing, not an error."""

    def __init__(self, home: Home, route: EndpointRoute) -> None:
        online = home.online(route.project)
        self._views = [
            (view, OnlineReader(online / view.name, view.features)) for view in route.views
        ]
        self._names = [name for view in route.views for name in view.features]

    def __call__(self, sent: Vectors, event_times_us: Sequence[int]) -> LookedUp:
        """Add each view's features at the rows' event times; NaN where older than the TTL."""
        if not self._views:
            return LookedUp(sent, {}, None)
        parts = [sent.floats]
        used: dict[str, ViewUse] = {}
        problem = None
        for view, reader in self._views:
            try:
                values, use = _used(view, reader, sent, event_times_us)
            except NotFound:
                values, use = _nothing(view, sent.count)
            except (MainspringError, OSError) as error:
                values, use = _nothing(view, sent.count)
                problem = f"view {view.name!r}: {error}"
            parts.append(values.T)
            used[view.name] = use
        vectors = Vectors(
            sent.count, sent.float_names + self._names, np.concatenate(parts), sent.strings
        )
        return LookedUp(vectors, used, problem)


def _used(
    view: ViewRef, reader: OnlineReader, sent: Vectors, event_times_us: Sequence[int]
) -> tuple[NDArray[np.float64], ViewUse]:
    values, times, arrivals = reader.find(_entities(sent, view.entity), event_times_us)
    if view.ttl_s is not None:
        longest_us = view.ttl_s * 1e6
        stale = [
            i
            for i, (at, time) in enumerate(zip(event_times_us, times, strict=True))
            if at - time > longest_us and time >= 0
        ]
        if stale:
            values = values.copy()
            values[stale] = np.nan
            for i in stale:
                times[i] = arrivals[i] = -1
    return values, ViewUse(times, arrivals)


def _entities(sent: Vectors, name: str) -> list[str]:
    if name in sent.strings:
        return sent.strings[name]
    return [_printed(value) for value in sent.wide()[name].tolist()]


def _printed(value: Any) -> str:
    return str(int(value)) if value == value and value == int(value) else str(value)


def _nothing(view: ViewRef, count: int) -> tuple[NDArray[np.float64], ViewUse]:
    none = [-1] * count
    return np.full((count, len(view.features)), np.nan), ViewUse(none, none)
