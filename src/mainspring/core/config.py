"""The configuration: one frozen value, read once and passed on.

Order, later wins: defaults, `mainspring.toml` beside the project, environment (`MAINSPRING_...`),
flags of the command.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidInput, Misconfigured
from mainspring.core.ids import DEFAULT_PROJECT, checked_name

_PREFIX = "MAINSPRING_"
_LEAST = {"loaded_models": 1, "grpc_port": -1, "segment_sync_s": -1}


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting with a default that works on a laptop."""

    home: str = _setting(".mainspring", "directory of the whole state")
    project: str = _setting(DEFAULT_PROJECT, "project that commands speak of")
    actor: str = _setting("local", "name that facts carry for commands of the local user")
    token: str = _setting("", "secret that commands show once a home has tokens")
    lease: str = _setting("60s", "how long a run may be silent before another attempt may begin")
    run_deadline: str = _setting("6h", "wall time after which an open run is expired")
    arm_timeout_s: float = _setting(1.0, "time an arm has to score before the live arm answers")
    segment_sync_s: float = _setting(
        1.0, "seconds between fsyncs of the request log; 0 syncs every record, -1 none"
    )
    loaded_models: int = _setting(16, "models a worker keeps loaded at most")
    bootstrap_seed: int = _setting(2013, "seed of the gate's resampling")
    host: str = _setting("127.0.0.1", "address that `mainspring up` listens on")
    port: int = _setting(8700, "port of the API and the console; 0 takes a free one")
    inference_port: int = _setting(8701, "port of the inference workers; 0 takes a free one")
    grpc_port: int = _setting(
        -1, "port of the inference workers' gRPC; 0 takes a free one, -1: they speak none"
    )
    workers: int = _setting(2, "inference worker processes")
    allowed_hosts: str = _setting(
        "", "further names by which browsers and clients may call, separated by commas"
    )
    outbound_hosts: str = _setting(
        "",
        "hosts on private networks that this server may call, without TLS too (host or host:port, "
        "separated by commas)",
    )
    request_limit_mib: int = _setting(64, "largest request body, in MiB, checked before parsing")
    drain_s: float = _setting(10.0, "seconds that a stopping process has to finish its work")
    loop_tick_s: float = _setting(5.0, "seconds after which the loop looks without being woken")
    spare_run_s: float = _setting(
        300.0, "seconds that a process stays ready for the next run, libraries loaded; 0: none"
    )
    interpreter: str = _setting("", "Python that runs execute in; empty: the platform's own")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it came out: for `mainspring config`."""

    name: str
    value: Any
    origin: str
    doc: str


def load(
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> tuple[Config, list[Setting]]:
    """Read the configuration that holds in a directory.

    Returns:
        The configuration, and each setting with where its value came from.

    Raises:
        Misconfigured: A key is unknown, or a value has the wrong type or range.
    """
    environment = os.environ if environment is None else environment
    chosen: dict[str, tuple[Any, str]] = {
        f.name: (f.default, "default") for f in fields(Config) if f.default is not MISSING
    }
    file = directory / "mainspring.toml"
    if file.is_file():
        for key, value in _read_toml(file).items():
            chosen[_known(key, file.name)] = (value, file.name)
    for key, text in environment.items():
        if key.startswith(_PREFIX):
            chosen[_known(key.removeprefix(_PREFIX).lower(), key)] = (text, f"environment {key}")
    for key, value in (flags or {}).items():
        if value is not None:
            chosen[_known(key, "flag")] = (value, f"flag --{key.replace('_', '-')}")
    typed = {name: _typed(name, value, origin) for name, (value, origin) in chosen.items()}
    config = Config(**typed)
    settings = [
        Setting(f.name, typed[f.name], chosen[f.name][1], f.metadata["doc"]) for f in fields(Config)
    ]
    return config, settings


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file.name}: not readable as TOML ({error}); correct it") from error


def _known(key: str, origin: str) -> str:
    names = [f.name for f in fields(Config)]
    if key in names:
        return key
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
    raise Misconfigured(f"{origin}: unknown setting {key!r}; the nearest known one is {near[0]!r}")


def _typed(name: str, value: Any, origin: str) -> Any:
    default: str | float = getattr(Config(), name)
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"found {value!r}")
        typed = type(default)(value)
        _check_range(name, typed)
    except (ValueError, InvalidInput) as error:
        kind = type(default).__name__
        raise Misconfigured(
            f"setting {name!r} from {origin}: {error}; expected {kind} such as {default!r}"
        ) from error
    return typed


def _check_range(name: str, value: Any) -> None:
    if name in ("lease", "run_deadline"):
        duration(value)
    elif name in ("project", "actor"):
        checked_name(value, what=name)
    elif name == "home":
        if not value:
            raise ValueError("found an empty path")
    elif not isinstance(value, str) and value < _LEAST.get(name, 0):
        raise ValueError(f"found {value!r}, which is too small")
