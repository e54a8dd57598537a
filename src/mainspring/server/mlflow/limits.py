"""What MLflow refuses, in its words: keys, lengths and sizes, before a room sees the request."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mainspring.core.errors import InvalidInput
from mainspring.server.mlflow.wire import KeyValue, invalid
from mainspring.tracking.limits import KEY_LENGTH, METRICS_PER_BATCH, PARAM_LENGTH, TAG_LENGTH

TEXTS_PER_BATCH = 100
ENTITIES_PER_BATCH = 1000
BATCH_BYTES = 1_000_000
ALIAS_LENGTH = 255
REGISTRY_TAG_LENGTH = 100_000

_KEY = re.compile(r"[/\w.\- :]*")
_ALIAS = re.compile(r"[\w\-]+")
_NUMBERED_ALIAS = re.compile(r"[vV]\d+")


def plain_key(key: str) -> bool:
    """Tell whether a key may be logged."""
    return len(key) <= KEY_LENGTH and not _wrong(key)


def check_key(key: str, path: str) -> str:
    """Return a key of a metric, parameter or tag; `path` is what the request calls it."""
    found = _wrong(key)
    if found:
        raise invalid(path, key, found)
    if len(key) > KEY_LENGTH:
        raise _too_long(path, KEY_LENGTH)
    return key


def check_params(params: Sequence[KeyValue], path: str = "params") -> dict[str, str]:
    """Give parameters by key; long values are cut as MLflow cuts them.

    Raises:
        InvalidInput: A key is not one, or stands twice with different values.
    """
    found: dict[str, str] = {}
    for number, pair in enumerate(params):
        key = check_key(pair.key, f"{path}[{number}].key")
        value = (pair.value or "")[:PARAM_LENGTH]
        if key in found and found[key] != value:
            raise InvalidInput(
                f"Duplicate parameter keys have been submitted: ['{key}']. Please ensure the "
                "request contains only one param value per param key."
            )
        found[key] = value
    return found


def check_tags(tags: Sequence[KeyValue], path: str = "tags") -> dict[str, str]:
    """Give tags by key; long values are cut as MLflow cuts them."""
    return {
        check_key(pair.key, f"{path}[{number}].key"): (pair.value or "")[:TAG_LENGTH]
        for number, pair in enumerate(tags)
    }


def check_batch(metrics: int, params: int, tags: int) -> None:
    """Refuse a batch with too many of anything."""
    for name, limit, found in (
        ("metrics", METRICS_PER_BATCH, metrics),
        ("params", TEXTS_PER_BATCH, params),
        ("tags", TEXTS_PER_BATCH, tags),
        ("metrics, params, and tags", ENTITIES_PER_BATCH, metrics + params + tags),
    ):
        if found > limit:
            raise InvalidInput(
                f"A batch logging request can contain at most {limit} {name}. Got {found} {name}. "
                f"Please split up {name} across multiple requests and try again."
            )


def check_batch_size(body: bytes) -> None:
    """Refuse a batch whose body is too large."""
    if len(body) > BATCH_BYTES:
        raise InvalidInput(
            f"Batched logging API requests must be at most {BATCH_BYTES} bytes, got a request of "
            f"size {len(body)}."
        )


def check_length(name: str, value: str | None, limit: int) -> None:
    """Refuse a text that is too long."""
    if value is not None and len(value) > limit:
        raise _too_long(name, limit)


def check_registry_tags(tags: Iterable[KeyValue]) -> None:
    """Refuse tags of models and versions that are no tags."""
    for tag in tags:
        check_key(tag.key, "key")
        check_length("value", tag.value, REGISTRY_TAG_LENGTH)


def check_alias(alias: str) -> str:
    """Return an alias that may be given to a version."""
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"Invalid alias name: '{alias[:60]}'. Names may only contain alphanumerics, "
            "underscores (_), and dashes (-)."
        )
    check_length("Registered model alias name", alias, ALIAS_LENGTH)
    if alias.lower() == "latest":
        raise InvalidInput("'latest' alias name (case insensitive) is reserved.")
    if _NUMBERED_ALIAS.fullmatch(alias):
        raise InvalidInput(f"Version alias name '{alias}' is reserved.")
    return alias


@lru_cache(maxsize=8192)
def _wrong(key: str) -> str:
    """Say what is wrong with a key; the same few come again and again."""
    if not _KEY.fullmatch(key):
        return (
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), "
            "spaces ( ), colon(:) and slashes (/)."
        )
    plain = posixpath.normpath(key)
    if plain != key or key == "." or key.startswith(("..", "/")):
        return (
            "Names may be treated as files in certain cases, and must not resolve to other names "
            f"when treated as such. This name would resolve to {plain!r}"
        )
    return ""


def _too_long(name: str, limit: int) -> InvalidInput:
    return InvalidInput(f"'{name}' exceeds the maximum length of {limit} characters")
