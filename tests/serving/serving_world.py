"""Builders for the serving tests: real graphs, real folders, a home without a control plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mainspring.core.clock import Clock, FrozenClock
from mainspring.core.home import Home
from mainspring.core.ids import Digest, Id, IdSource, digest_bytes
from mainspring.formats.model import Column, Goldens, Signature
from mainspring.formats.online import OnlineWriter
from mainspring.formats.routes import Arm, EndpointRoute, RouteTable, ViewRef, publish
from mainspring.formats.segment import Block, read_blocks, segments
from mainspring.formats.write import build_folder, put_folder
from mainspring.serving.engine import Engine, Rows

REQUEST = (Column("origin", "str"), Column("distance", "float"), Column("hour", "int"))
HOUR = 3_600_000_000
ROLLOUT = Id("1" * 32)


def graph(nodes: Sequence[Any], inputs: Mapping[str, int], constants: Mapping[str, Any]) -> bytes:
    """Make a graph with the output `probability` (rows)."""
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, kind, ["rows"]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    content: bytes = helper.make_model(
        made, opset_imports=imports, ir_version=8
    ).SerializeToString()
    return content


def constant(value: float) -> bytes:
    """A model that gives the same for every row."""
    nodes = [
        helper.make_node("Mul", ["hour", "zero"], ["none"]),
        helper.make_node("Add", ["none", "value"], ["probability"]),
    ]
    constants = {"zero": np.float32(0), "value": np.float32(value)}
    return graph(nodes, {"hour": TensorProto.FLOAT}, constants)


def slow(value: float, size: int = 1200) -> bytes:
    """A model that gives the same for every row, after two billion operations or so."""
    nodes = [
        helper.make_node("ReduceMean", ["hour"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["table", "nothing"], ["left"]),
        helper.make_node("MatMul", ["left", "left"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "zero"], ["none"]),
        helper.make_node("Mul", ["hour", "zero"], ["rows"]),
        helper.make_node("Add", ["rows", "none"], ["all"]),
        helper.make_node("Add", ["all", "value"], ["probability"]),
    ]
    table = np.zeros((size, size), np.float32)
    constants = {"zero": np.float32(0), "value": np.float32(value), "table": table}
    return graph(nodes, {"hour": TensorProto.FLOAT}, constants)


def passing_on(name: str) -> bytes:
    """A model that gives one of its inputs: NaN comes out where NaN goes in."""
    nodes = [helper.make_node("Identity", [name], ["probability"])]
    return graph(nodes, {name: TensorProto.FLOAT}, {})


def failing_at(origin: str, value: float = 0.5) -> bytes:
    """A model that raises for one origin: it gathers behind the end of a list of one."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["origin"],
            ["index"],
            domain="ai.onnx.ml",
            keys_strings=[origin],
            values_int64s=[7],
            default_int64=0,
        ),
        helper.make_node("Gather", ["list", "index"], ["probability"]),
    ]
    return graph(nodes, {"origin": TensorProto.STRING}, {"list": np.array([value], np.float32)})


def ill_shaped() -> bytes:
    """A model that gives one value more than it got rows, from two rows on."""
    nodes = [
        helper.make_node("Shape", ["hour"], ["shape"]),
        helper.make_node("Mul", ["shape", "shape"], ["wider"]),
        helper.make_node("ConstantOfShape", ["wider"], ["probability"]),
    ]
    return graph(nodes, {"hour": TensorProto.FLOAT}, {})


INPUTS = {"hour": Column("hour", "int"), "origin": Column("origin", "str")}


@dataclass
class World:
    """A home with blobs, routes and online tables, and an engine on it."""

    root: Path
    clock: Clock = field(default_factory=lambda: FrozenClock(datetime(2013, 4, 1, tzinfo=UTC)))

    def __post_init__(self) -> None:
        self.home = Home(self.root)
        self.ids = IdSource(self.clock)

    def put(self, content: bytes) -> Digest:
        digest = digest_bytes(content)
        path = self.home.blob("default", digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest

    def model(
        self,
        content: bytes,
        *,
        golden: float = 0.5,
        row: Mapping[str, Any] | None = None,
    ) -> Digest:
        """Store a version; its golden row is at JFK, 1 o'clock."""
        sample = {"origin": "JFK", "hour": 1.0, "distance": 1.0, **(row or {})}
        names = [value.name for value in onnx.load_from_string(content).graph.input]
        signature = Signature(
            tuple(INPUTS.get(name, Column(name, "float")) for name in names), "probability"
        )
        files = build_folder(
            onnx=content,
            signature=signature,
            goldens=Goldens({name: [sample[name]] for name in names}, [golden]),
            profile={},
            environment={},
        )
        return put_folder(self.put, files)

    def publish(
        self,
        number: int,
        *arms: Arm,
        rollout: Id | None = None,
        views: tuple[ViewRef, ...] = (),
        **more: Any,
    ) -> None:
        publish(
            self.home.routes,
            RouteTable(number, (self.route(*arms, rollout=rollout, views=views, **more),)),
        )

    @staticmethod
    def route(*arms: Arm, endpoint: str = "delay", **more: Any) -> EndpointRoute:
        given: dict[str, Any] = {
            "project": "default",
            "endpoint": endpoint,
            "salt": "salt",
            "arms": arms,
            "request": REQUEST,
            "views": (),
            "arm_timeout_s": 1.0,
            "rollout": None,
            **more,
        }
        return EndpointRoute(**given)

    def engine(self, **more: Any) -> Engine:
        engine = Engine(self.home, worker="w1", clock=self.clock, ids=self.ids, **more)
        engine.refresh()
        return engine

    def online(self, view: str, features: Sequence[str]) -> OnlineWriter:
        return OnlineWriter(self.home.online("default") / view, features)

    def blocks(self) -> list[Block]:
        return [
            block for file in segments(self.home.segments) for block in read_blocks(file.path)[0]
        ]


def live(manifest: Digest, version: str = "1", share: float = 1.0) -> Arm:
    return Arm(version, manifest, "live", share)


def canary(manifest: Digest, share: float, version: str = "2") -> Arm:
    return Arm(version, manifest, "canary", share)


def rows(*origins: str, at: int = 10 * HOUR, distance: float = 100.0) -> Rows:
    count = len(origins)
    return Rows(
        [f"flight{i}" for i in range(count)],
        [at] * count,
        {"origin": list(origins), "distance": [distance] * count, "hour": [1] * count},
    )
