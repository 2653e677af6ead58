"""Options that take several values in a row, as `--seeds 0 1 2`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class ManyValues(TyperCommand):
    """A command whose repeatable options may be written once: `--seeds 0 1 2` is `--seeds 0 --seeds 1 --seeds 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - the context is of a package that typer vendors
        repeatable = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        expanded: list[str] = []
        current: str | None = None
        for word in args:
            if word.startswith("--"):
                current = word if word in repeatable else None
                if current is None:
                    expanded.append(word)
            elif current is not None:
                expanded += [current, word]
            else:
                expanded.append(word)
        return super().parse_args(ctx, expanded)
