"""One model served with one command, without a project."""

import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mainspring.cli.session import DEFAULTS, Common, settings
from mainspring.core.errors import Misconfigured, NotFound, Unavailable

_SECRET = re.compile("TOKEN|SECRET|PASSW|CREDENTIAL|_KEY|APIKEY", re.IGNORECASE)
_DEFAULT_PORT = 8701


def serve(
    model: str,
    /,
    *,
    name: str = "model",
    host: str | None = None,
    port: int = _DEFAULT_PORT,
    grpc_port: int = -1,
    sample: Path | None = None,
    columns: str | None = None,
    trust: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Serve one model until Ctrl-C: V2, TF Serving, KServe, MLflow's scoring, gRPC; all recorded.

    Args:
        model: An ONNX file, a pickle, a folder of mlflow's, runs:/RUN/PATH or models:/NAME/VERSION.
        name: Of the endpoint.
        host: Address to listen on.
        port: 0 takes a free one.
        grpc_port: Port of gRPC; 0 takes a free one, without it none is spoken.
        sample: Real rows (CSV, Parquet, JSON lines): they name the columns, prove the conversion
            and are kept as reference.
        columns: The model's columns in its order, separated by commas, where neither it nor the
            sample names them.
        trust: Load a pickle, or a model that is one: that runs what its author wrote.
        common: Options of every command; with `--home` the request log and the model stay there.

    Returns:
        0 when it ended in order.
    """
    from mainspring.core.home import Home

    flags = {"host": host, "inference_port": port, "grpc_port": grpc_port}
    config, _, _ = settings(Common(project=common.project), flags=flags)
    with ExitStack() as stack:
        if common.home is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mainspring-")))
        else:
            root = Path(common.home).absolute()
        home = Home(root)
        root.mkdir(parents=True, exist_ok=True)
        place = _fetched(model, stack)
        names = [one.strip() for one in columns.split(",")] if columns else []
        told = _adopted(home, place, name, sample, names, trust=trust)
        return _served(home, config, name, told, stack, as_json=common.json)


def _fetched(model: str, stack: ExitStack) -> str:
    """Give a model's place on this disk; what mlflow's client names is fetched by it."""
    if not model.startswith(("runs:/", "models:/", "mlflow-artifacts:/")):
        return model
    from mlflow.artifacts import download_artifacts

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mainspring-model-"))
    try:
        return str(download_artifacts(artifact_uri=model, dst_path=folder))
    except Exception as error:  # the client's errors share no root
        raise NotFound(f"model {model!r}: {error}; check it and MLFLOW_TRACKING_URI") from error


def _adopted(
    home: Any, model: str, name: str, sample: Path | None, columns: list[str], *, trust: bool
) -> dict[str, Any]:
    """Have the model made a version's folder by a process of its own."""
    command = [sys.executable, "-P", "-m", "mainspring.pipelines.adopt", model]
    command += ["--home", str(home.root), "--name", name]
    command += [] if sample is None else ["--sample", str(sample)]
    command += ["--columns", *columns] if columns else []
    command += ["--trust"] if trust else []
    kept = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    answered = subprocess.run(command, env=kept, stdout=subprocess.PIPE, text=True, check=False)
    lines = answered.stdout.strip().splitlines()
    try:
        told: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise Unavailable(
            f"model {model!r}: the process that loads it ended with {answered.returncode}; what it "
            "printed is above"
        ) from error
    if "error" in told:
        raise _errors().get(told["error"], Unavailable)(told["told"])
    return told


def _errors() -> dict[str, type[Exception]]:
    from mainspring.core.errors import MainspringError

    return {error.code: error for error in MainspringError.__subclasses__()}


def _served(
    home: Any, config: Any, name: str, told: dict[str, Any], stack: ExitStack, *, as_json: bool
) -> int:
    import msgspec
    import uvloop

    from mainspring.formats.model import Column
    from mainspring.serving.alone import put_on_route, serve_alone
    from mainspring.supervisor.sockets import is_loopback, listen, url_of

    columns = msgspec.convert(told["columns"], list[Column])
    version = put_on_route(home, name, told["digest"], columns, arm_timeout_s=config.arm_timeout_s)
    if not is_loopback(config.host):
        raise Misconfigured(
            f"host {config.host!r}: others would reach a model that asks nobody who they are; "
            "serve it from a platform with tokens (`mainspring up`)"
        )
    sockets = {"inference_port": config.inference_port}
    if config.grpc_port >= 0:
        sockets["grpc_port"] = config.grpc_port
    opened = {
        setting: stack.enter_context(listen(config.host, number, setting=setting, public=False))
        for setting, number in sockets.items()
    }
    listening, calls = opened["inference_port"], opened.get("grpc_port")

    def ready() -> None:
        answer = {"url": url_of(listening), "endpoint": name, "version": version}
        if calls is not None:
            answer["grpc_address"] = url_of(calls).removeprefix("http://")
        _say(answer, [column.name for column in columns], told, as_json=as_json)

    state = uvloop.run(serve_alone(home, config, listening, calls, ready=ready))
    if not as_json:
        print(f"answered {state.requests} requests, {state.rows} rows")
    return 0


def _say(
    answer: dict[str, Any], columns: list[str], told: dict[str, Any], *, as_json: bool
) -> None:
    if as_json:
        print(json.dumps({**answer, "columns": columns}), flush=True)
        return
    print(f"{answer['endpoint']}, version {answer['version']}, of columns {', '.join(columns)}")
    print(f"V2               {answer['url']}/v2/models/{answer['endpoint']}/infer")
    print(f"MLflow           {answer['url']}/invocations")
    print(f"TF Serving       {answer['url']}/v1/models/{answer['endpoint']}:predict")
    if "grpc_address" in answer:
        print(f"gRPC             {answer['grpc_address']}")
    print(f"metrics          {answer['url']}/metrics")
    if told["made_up"]:
        print("no rows were given: that the graph agrees with its model is not proved (--sample)")
    print("Ctrl-C ends it", flush=True)
