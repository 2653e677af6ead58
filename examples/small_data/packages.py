"""The Debian packages that the small data sets are made from: fetched with apt-get, checked, unpacked.

Other data sets fetch packages of another kind with the same functions.
"""

import hashlib
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


class PackageError(Exception):
    """A package cannot be fetched or unpacked, or has another content; the message names the way out."""


@dataclass(frozen=True)
class Package:
    """One version of a package; the data sets are the same on every machine because its content is."""

    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name that apt-get gives the file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"

    @property
    def download(self) -> list[str]:
        """The command that fetches the file into the working directory."""
        return ["apt-get", "download", f"{self.name}={self.version}"]

    @property
    def cure(self) -> str:
        """Advice after a failed download."""
        return "check the network, run `apt-get update` on Debian 12"


OPENCLIPART_PNG = Package(
    "openclipart-png", "1:0.18+dfsg-19", "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02"
)
OPENCLIPART_SVG = Package(
    "openclipart-svg", "1:0.18+dfsg-19", "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
)
TUXPAINT_STAMPS = Package(
    "tuxpaint-stamps-default", "2022.06.04-1", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
)
ENDLESS_SKY = Package(
    "endless-sky-data", "0.9.8-1.2", "e45835e05a11e84bb1a890a0ded390246a53b8318f21a25925aa70fa54f80c13"
)
WESNOTH = Package("wesnoth-1.16-data", "1:1.16.9-1", "1012b964bd412a6770685e3324ae3b61e176caff7846192d1ee63d55cd621e26")


@contextmanager
def unpacked(packages: Sequence[Package], downloads: Path) -> Iterator[Path]:
    """A temporary folder with the files of these packages, as below `/`. Raises PackageError."""
    downloads.mkdir(parents=True, exist_ok=True)
    files = [fetch(package, downloads) for package in packages]
    with TemporaryDirectory(dir=downloads) as folder:
        for file in files:
            run(
                ["dpkg-deb", "--extract", str(file), folder],
                cure="unpacking needs Debian's package dpkg and disk space",
            )
        yield Path(folder)


def fetch(package: Package, downloads: Path) -> Path:
    """The file of a package in `downloads`; it is downloaded if it is not there. Raises PackageError."""
    path = downloads / package.file_name
    if not path.exists():
        cure = f"{package.cure}, or put {package.file_name} into {downloads}"
        with TemporaryDirectory(dir=downloads) as folder:  # an interrupted download leaves nothing behind
            run(package.download, cure, cwd=folder)
            check(Path(folder) / package.file_name, package).rename(path)
    return check(path, package)


def check(path: Path, package: Package) -> Path:
    """The path, if its file is the package. Raises PackageError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PackageError(f"cannot read {path}: {error.strerror}") from error
    if digest != package.sha256:
        raise PackageError(f"{path} has the SHA-256 {digest}, not {package.sha256}; delete it and run this again")
    return path


def run(command: Sequence[str], cure: str, cwd: str | None = None) -> None:
    """Run a command, which may show its progress on the terminal. Raises PackageError with its last complaint."""
    try:
        subprocess.run(command, cwd=cwd, check=True, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError as error:
        raise PackageError(f"this machine has no {command[0]}: {cure}") from error
    except subprocess.CalledProcessError as error:
        complaint = (error.stderr.strip() or f"exit status {error.returncode}").splitlines()[-1]
        raise PackageError(f"`{' '.join(command)}` failed ({complaint}): {cure}") from error
