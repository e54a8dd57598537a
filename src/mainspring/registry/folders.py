"""What a version's folder says of the data it was made on: its profiles and its calibration."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from mainspring.formats.model import CALIBRATION, PROFILE, Manifest, read_file, read_manifest
from mainspring.registry.versions import Registry
from mainspring.stats.calibration import CalibrationMap
from mainspring.stats.categories import CategoryProfile
from mainspring.stats.profile import NumericProfile


class _Reference(msgspec.Struct, frozen=True):
    numeric: dict[str, NumericProfile]
    categories: dict[str, CategoryProfile]
    score: NumericProfile


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """Reads folders of registered versions; a model is named after its endpoint.

    Raises (all methods):
        NotFound: There is no such version, or its blobs are gone.
        Corrupt: Its blobs were altered.
    """

    registry: Registry

    def calibration(self, endpoint: str, version: str) -> CalibrationMap | None:
        """Give the map from score to probability; None when no rows were held out for it."""
        manifest = self._manifest(endpoint, version)
        if CALIBRATION not in manifest.files:
            return None
        return msgspec.json.decode(self._file(manifest, CALIBRATION), type=CalibrationMap)

    def profiles(
        self, endpoint: str, version: str
    ) -> Mapping[str, NumericProfile | CategoryProfile]:
        """Give the profiles of the training rows by input column; none for an opaque version."""
        reference = self._reference(endpoint, version)
        return {} if reference is None else {**reference.numeric, **reference.categories}

    def score(self, endpoint: str, version: str) -> NumericProfile | None:
        """Give the profile of the scores, of held-out rows where there were some."""
        reference = self._reference(endpoint, version)
        return None if reference is None else reference.score

    def _reference(self, endpoint: str, version: str) -> _Reference | None:
        manifest = self._manifest(endpoint, version)
        if PROFILE not in manifest.files:
            return None
        return msgspec.json.decode(self._file(manifest, PROFILE), type=_Reference)

    def _manifest(self, endpoint: str, version: str) -> Manifest:
        found = self.registry.get(endpoint, version)
        return read_manifest(self.registry.blobs.path, found.manifest)

    def _file(self, manifest: Manifest, name: str) -> bytes:
        return read_file(self.registry.blobs.path, manifest, name)
