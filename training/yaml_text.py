"""YAML whose mappings have each key once."""

from __future__ import annotations

from typing import Any

import yaml


class RepeatedKeyError(yaml.MarkedYAMLError):
    """A mapping with a key that occurs more than once. `problem` names the key and the cure."""


def parse_yaml(text: str) -> Any:  # noqa: ANN401
    """The value of a YAML text. Raises yaml.YAMLError, of which RepeatedKeyError is one."""
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


class _Loader(yaml.SafeLoader):
    """PyYAML would take the last of equal keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401
        node = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in keys:
                problem = f"the key {key.value!r} occurs more than once; remove all but one"
                raise RepeatedKeyError(problem=problem, problem_mark=key.start_mark)
            keys.add((key.tag, key.value))
        return node
