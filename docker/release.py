"""A release: wheel, sdist, SBOM and image of a commit, and a signed statement of what was built from it.

    mora-store keygen release.key                                  # once; publish release.key.pub
    make release KEY=release.key IMAGE=registry.example/mora-serve:0.1.0
    python docker/release.py verify build/release --key release.key.pub

Everything is built from `git archive` of the commit, so that no other file of the working tree gets in. The statement
`provenance.intoto.jsonl` is an in-toto Statement v1 with SLSA provenance v1, in a DSSE envelope that an Ed25519 key
signs. It names each file by its SHA-256, the image by the digest under which a registry has it, and the commit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from model_store import StoreError, read_signing_key

ROOT = Path(__file__).parents[1]
STATEMENT = "provenance.intoto.jsonl"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_BUILD_TYPE = "urn:mora-serve:make-release:1"
_LOCKS = ("docker/requirements-cpu.txt", "docker/requirements-build.txt")  # what the image is made of
app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def build(
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key of `mora-store keygen`.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the release.")] = ROOT / "build/release",
    image: Annotated[
        str | None, typer.Option(metavar="NAME", help="Build the image, and push it under this name.")
    ] = None,
    source: Annotated[Path, typer.Option(metavar="DIR", help="The checkout.")] = ROOT,
) -> None:
    """Build wheel, sdist and SBOM of the commit that is checked out, and the image if it has a name; sign them."""
    try:
        signer = CryptoSigner(read_signing_key(key))
    except (OSError, StoreError) as error:
        raise typer.BadParameter(str(error)) from error
    if changed := _run(source, "git", "status", "--porcelain"):
        raise typer.BadParameter(f"the working tree has changes, which a release would lack; commit them:\n{changed}")
    commit, begun = _run(source, "git", "rev-parse", "HEAD"), _now()
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder)
        _run(source, "git", "archive", "--format=tar", f"--output={clean}/source.tar", commit)
        _run(clean, "tar", "-xf", "source.tar")
        (clean / "source.tar").unlink()
        typer.echo(f"building the wheel and the sdist of {commit[:12]}")
        build_both = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir"]
        _run(clean, *build_both, str(output.absolute()))
        (output / ".gitignore").unlink(missing_ok=True)  # of `build`
        sbom = ["cyclonedx_py", "requirements", _LOCKS[0], "--pyproject", "pyproject.toml", "--output-reproducible"]
        _run(clean, sys.executable, "-m", *sbom, "--output-file", str((output / "sbom.json").absolute()))
        subjects = [{"name": path.name, "digest": {"sha256": _sha256(path)}} for path in sorted(output.iterdir())]
        if image is not None:
            typer.echo(f"building and pushing {image}")
            subjects.append(
                {"name": image.rpartition(":")[0] or image, "digest": {"sha256": _push(clean, image, commit)}}
            )
        materials = [{"name": "source", "digest": {"gitCommit": commit}}]
        materials += [{"name": name, "digest": {"sha256": _sha256(clean / name)}} for name in _LOCKS]
    statement = _statement(subjects, materials, {"image": image} if image else {}, begun)
    envelope = Envelope(json.dumps(statement).encode(), _PAYLOAD_TYPE, {})
    envelope.sign(signer)
    (output / STATEMENT).write_text(json.dumps(envelope.to_dict()) + "\n")
    for subject in subjects:
        typer.echo(f"{subject['digest']['sha256']}  {subject['name']}")
    typer.echo(f"wrote {output}; {STATEMENT} is signed" + ("" if image else "; no image (IMAGE=... builds one)"))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a release.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Public key of the one who released it.")],
) -> None:
    """Check the signature of the statement, and each file that it names. Prints the commit and the image's digest."""
    try:
        envelope = Envelope.from_dict(json.loads((folder / STATEMENT).read_bytes()))
        envelope.verify([SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))], threshold=1)
        statement = json.loads(envelope.payload)
    except (OSError, ValueError, KeyError) as error:
        raise typer.BadParameter(f"{folder / STATEMENT} cannot be checked: {error}") from error
    except VerificationError as error:
        raise typer.BadParameter(f"{folder / STATEMENT} is not signed with {key}, or was changed later") from error
    named = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    for path in sorted(folder.iterdir()):
        if path.name != STATEMENT and named.pop(path.name, None) != _sha256(path):
            raise typer.BadParameter(f"{path} is not the file that was released; fetch it again")
        typer.echo(f"{path.name}: as released" if path.name != STATEMENT else f"{STATEMENT}: signed")
    for name, digest in named.items():
        typer.echo(f"not in the folder: {name}@sha256:{digest}")
    (source,) = [
        it for it in statement["predicate"]["buildDefinition"]["resolvedDependencies"] if it["name"] == "source"
    ]
    typer.echo(f"built from commit {source['digest']['gitCommit']}")


def _statement(
    subjects: list[dict[str, Any]], materials: list[dict[str, Any]], parameters: dict[str, str], begun: str
) -> dict[str, Any]:
    """in-toto Statement v1 with the predicate SLSA provenance v1."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": _BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {"id": _BUILD_TYPE, "version": {"python": sys.version.split()[0]}},
                "metadata": {"startedOn": begun, "finishedOn": _now()},
            },
        },
    }


def _push(folder: Path, image: str, commit: str) -> str:
    """Build and push the image of a checkout; the SHA-256 of its manifest in the registry."""
    build_it = ["docker", "build", "--quiet", "-f", "docker/service.Dockerfile", "-t", image]
    _run(folder, *build_it, "--build-arg", f"REVISION={commit}", ".")
    _run(folder, "docker", "push", "--quiet", image)
    digests = json.loads(_run(folder, "docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image))
    (digest,) = [each.partition("@sha256:")[2] for each in digests if each.startswith(f"{_repository(image)}@")]
    return str(digest)


def _repository(image: str) -> str:
    """The name of an image without its tag."""
    path, slash, name = image.rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}"


def _run(folder: Path, *command: str) -> str:
    """What a command prints. Ends with its error output if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        typer.echo(done.stdout + done.stderr, err=True)
        raise typer.BadParameter(f"{' '.join(command[:4])} ... failed with {done.returncode}; its output is above")
    return done.stdout.strip()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    app()
