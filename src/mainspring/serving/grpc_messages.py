"""Messages of the V2 protocol over gRPC: names and numbers of the Open Inference Protocol.

Described here and made at import, in a pool of their own: another library in the process may have
described the same protocol.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TYPES = {
    "bool": 8, "bytes": 12, "double": 1, "float": 2, "int32": 5, "int64": 3, "string": 9,
    "uint32": 13, "uint64": 4,
}  # fmt: skip
_NAMED = "name:string version:string"
_TENSOR = "name:string datatype:string shape:*int64"

# By message: fields in the order of their numbers, from 1. `*` repeats; `map X` is a map of texts.
_MESSAGES: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:*string",
    "ModelMetadataRequest": _NAMED,
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": "name:string versions:*string platform:string "
    "inputs:*TensorMetadata outputs:*TensorMetadata",
    "InferParameter": "bool_param:bool int64_param:int64 string_param:string double_param:double "
    "uint64_param:uint64",
    "InferTensorContents": "bool_contents:*bool int_contents:*int32 int64_contents:*int64 "
    "uint_contents:*uint32 uint64_contents:*uint64 fp32_contents:*float fp64_contents:*double "
    "bytes_contents:*bytes",
    "InferInputTensor": f"{_TENSOR} parameters:map contents:InferTensorContents",
    "InferRequestedOutputTensor": "name:string parameters:map",
    "ModelInferRequest": "model_name:string model_version:string id:string parameters:map "
    "inputs:*InferInputTensor outputs:*InferRequestedOutputTensor raw_input_contents:*bytes",
    "InferOutputTensor": f"{_TENSOR} parameters:map contents:InferTensorContents",
    "ModelInferResponse": "model_name:string model_version:string id:string parameters:map "
    "outputs:*InferOutputTensor raw_output_contents:*bytes",
    "ModelStatisticsRequest": _NAMED,
    "StatisticDuration": "count:uint64 ns:uint64",
    "InferStatistics": "success:StatisticDuration fail:StatisticDuration queue:StatisticDuration "
    "compute_input:StatisticDuration compute_infer:StatisticDuration "
    "compute_output:StatisticDuration",
    "ModelStatistics": "name:string version:string last_inference:uint64 inference_count:uint64 "
    "execution_count:uint64 inference_stats:InferStatistics",
    "ModelStatisticsResponse": "model_stats:*ModelStatistics",
    "RepositoryIndexRequest": "repository_name:string ready:bool",
    "ModelIndex": "name:string version:string state:string reason:string",
    "RepositoryIndexResponse": "models:*ModelIndex",
    "RepositoryModelLoadRequest": "repository_name:string model_name:string",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "repository_name:string model_name:string",
    "RepositoryModelUnloadResponse": "",
}

METHODS = (
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"),
    *("ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
)
"""What can be called; each takes `<method>Request` and gives `<method>Response`."""


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="mainspring/inference.proto", package=PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields.split(), 1):
            _add(message, number, *field.split(":"))
    return file


def _add(message: Any, number: int, name: str, kind: str) -> None:
    label = 3 if kind.startswith("*") or kind == "map" else 1
    field = message.field.add(name=name, number=number, label=label)
    kind = kind.removeprefix("*")
    if kind in _TYPES:
        field.type = _TYPES[kind]
        if message.name == "InferParameter":
            if not message.oneof_decl:
                message.oneof_decl.add(name="parameter_choice")
            field.oneof_index = 0
        return
    field.type = 11
    if kind != "map":
        field.type_name = f".{PACKAGE}.{kind}"
        return
    entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=1, type=_TYPES["string"])
    entry.field.add(
        name="value", number=2, label=1, type=11, type_name=f".{PACKAGE}.InferParameter"
    )
    field.type_name = f".{PACKAGE}.{message.name}.{entry.name}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_described())


def message(name: str) -> Any:
    """Give the class of a message."""
    found = _pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


REQUESTS = {f"/{SERVICE}/{method}": message(f"{method}Request") for method in METHODS}
"""The class of each method's request, by its path."""
RESPONSES = {method: message(f"{method}Response") for method in METHODS}
