"""Delivers what is in the outbox: at least once, again when it was not taken, one try at a time."""

import base64
import hashlib
import hmac
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

from mainspring.core.errors import MainspringError, NotFound
from mainspring.core.ids import Id
from mainspring.outbound.door import Door
from mainspring.outbound.outbox import Delivery, Outbox
from mainspring.outbound.webhooks import Webhooks

AT_ONCE = 8
AT_ONCE_EACH = 2
"""Of one webhook, so that a slow receiver leaves room for the others."""

LOOK_S = 60.0
"""Seconds after which it looks without being woken."""

_AGAIN_S, _LOOKS = 0.1, 20

_log = logging.getLogger("mainspring.outbound")


class _Taken(TypedDict):
    besides: list[Id]
    resting: list[str]


class Deliverer:
    """A thread that delivers, while control is up.

    A delivery that was made and not yet noted when the process ended is made again: receivers
    tell repeats by the delivery's id.

    Args:
        webhooks: Gives those of a project.
        chance: Between 0 and 1, for the spread of repeats.
    """

    def __init__(
        self,
        outbox: Outbox,
        door: Door,
        webhooks: Callable[[str], Webhooks],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._door = door
        self._webhooks = webhooks
        self._chance = chance
        self._woken = threading.Event()
        self._ending = threading.Event()
        # By their webhook; changed by several threads, one whole operation at a time.
        self._under_way: dict[Id, str] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, "delivery")
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        outbox.wake = self._woken.set

    def start(self) -> None:
        """Begin; what is left of a former life is delivered first."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no more; what is under way has its own limit of time and is not waited for."""
        self._ending.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        looks = 0
        while not self._ending.is_set():
            try:
                pause_s = self._look()
            except MainspringError as error:
                # The database may be gone for a while; the outbox is as durable as it is.
                _log.warning("the outbox cannot be read: %s", error)
                pause_s = LOOK_S
            # Woken from inside a write, it sees what was put in only once that is durable.
            looks = max(0, looks - 1)
            if self._woken.wait(min(pause_s, _AGAIN_S) if looks else pause_s):
                self._woken.clear()
                looks = _LOOKS

    def _look(self) -> float:
        """Hand over what is due; give how long there is nothing to do."""
        free = AT_ONCE - len(self._under_way)
        if free <= 0:
            return LOOK_S
        for one in self._outbox.due(limit=free, **self._taken()):
            if self._has_room(one.webhook):
                self._under_way[one.delivery] = one.webhook
                self._threads.submit(self._deliver, one)
        due_ms = self._outbox.next_due_ms(**self._taken())
        if due_ms is None:
            return LOOK_S
        return min(LOOK_S, max(0.05, (due_ms - self._outbox.now_ms()) / 1000))

    def _taken(self) -> _Taken:
        under_way = dict(self._under_way)
        resting = [name for name in set(under_way.values()) if not self._has_room(name)]
        return {"besides": list(under_way), "resting": resting}

    def _has_room(self, webhook: str) -> bool:
        return list(self._under_way.values()).count(webhook) < AT_ONCE_EACH

    def _deliver(self, one: Delivery) -> None:
        try:
            problem = self._tried(one)
            if problem is None:
                self._outbox.arrived(one)
            else:
                self._outbox.failed(one, problem, jitter=self._chance())
                _log.info("delivery %s to webhook %s: %s", one.delivery, one.webhook, problem)
        except MainspringError as error:
            _log.warning("delivery %s is not noted and will be made again: %s", one.delivery, error)
        except Exception:
            _log.exception("delivery %s", one.delivery)
        finally:
            self._under_way.pop(one.delivery, None)
            self._woken.set()

    def _tried(self, one: Delivery) -> str | None:
        """Try once; give what was wrong, or None."""
        webhooks = self._webhooks(one.project)
        try:
            url, secret = webhooks.get(one.webhook).url, webhooks.secret(one.webhook)
        except NotFound:
            # Unsubscribed meanwhile: there is nobody to tell.
            return None
        try:
            status = send(self._door, url, secret, one.delivery, one.body, self._outbox.now_ms())
        except MainspringError as error:
            return str(error)
        return None if 200 <= status < 300 else f"it answered {status}"


def send(door: Door, url: str, secret: str, delivery: str, body: bytes, now_ms: int) -> int:
    """Post a signed notice; gives the status of the answer."""
    at = str(now_ms // 1000)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "mainspring",
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": at,
    }
    if secret:
        headers["X-MLflow-Signature"] = signature(secret, delivery, at, body)
    return door.post(url, body, headers)


def signature(secret: str, delivery: str, at: str, body: bytes) -> str:
    """Sign a delivery, its instant and its body together, so that none can be exchanged.

    >>> signature("secret", "id", "0", b"{}")
    'v1,E1dgkCf/zWJwoqyLX4JX4msjlpeuuY59/nLUxawMaKQ='
    """
    content = f"{delivery}.{at}.".encode() + body
    digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
