"""The arguments of every step."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Folder: TypeAlias = Annotated[Path, typer.Argument(help="Folder that the steps of one run share.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Small and short, for a machine without a GPU.")]
