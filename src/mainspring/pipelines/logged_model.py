"""What a step hands on of a model it logged: its folder's digest, and how to use it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mainspring.core.ids import Digest
from mainspring.formats.model import (
    ONNX,
    Manifest,
    Signature,
    read_file,
    read_manifest,
    read_signature,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from mainspring.store.blobs import Blobs


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model folder in blobs, addressed by its manifest."""

    manifest: Digest
    blobs: "Blobs" = field(compare=False, repr=False)

    def files(self) -> Manifest:
        """List the folder's files."""
        return read_manifest(self.blobs.path, self.manifest)

    def signature(self) -> Signature:
        """Give what the model reads and gives."""
        return read_signature(self.blobs.path, self.files())

    def predict(self, rows: "pl.DataFrame") -> "NDArray[np.float64]":
        """Score rows with the graph that will serve: one value per row."""
        from mainspring.formats.parity import run
        from mainspring.pipelines.served import served_rows

        manifest = self.files()
        columns = read_signature(self.blobs.path, manifest).inputs
        graph = read_file(self.blobs.path, manifest, ONNX)
        return run(graph, columns, served_rows(rows, columns))


def folder_digests(manifest: Digest, blobs: "Blobs") -> list[Digest]:
    """List the blobs of a folder's files."""
    return list(read_manifest(blobs.path, manifest).files.values())
