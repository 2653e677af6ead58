"""The npm packages that the emoji data set is made from, and the files inside them."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.small_data.packages import Package, PackageError, fetch


@dataclass(frozen=True)
class NpmPackage(Package):
    """One version of a package of npm; `npm pack` fetches its archive without running any of its scripts."""

    @property
    def file_name(self) -> str:
        """The name that npm gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def download(self) -> list[str]:
        return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]

    @property
    def cure(self) -> str:
        return "check the network, install npm"


NAMES = NpmPackage("unicode-emoji-json", "0.9.0", "ae7efacb55533385bf8767d613dbd36c71226669759d95919a6e9059f5e4c401")
NOTO = NpmPackage("@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad")
TWEMOJI = NpmPackage(
    "@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"
)
OPENMOJI = NpmPackage(
    "@iconify-json/openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"
)
FLUENT = NpmPackage(
    "@iconify-json/fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
)


def read_json(package: Package, file_name: str, downloads: Path) -> Any:  # noqa: ANN401 (JSON)
    """The content of one JSON file of a package, which is fetched if it is not in `downloads`. Raises PackageError."""
    archive = fetch(package, downloads)
    try:
        with tarfile.open(archive) as files:
            member = files.extractfile(f"package/{file_name}")
            if member is None:
                raise KeyError(file_name)
            return json.load(member)
    except (tarfile.TarError, KeyError, ValueError) as error:
        cure = "check the package's version and SHA-256 in examples/emoji/packages.py"
        raise PackageError(f"{archive} has no readable package/{file_name}: {cure}") from error
