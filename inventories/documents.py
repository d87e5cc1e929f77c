"""One YAML or JSON file as Ansible reads it, but strict: a key that stands twice is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from inventories.errors import InventoryError
from inventories.paths import shown
from inventories.values import Unsafe, Vaulted, from_json_object

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]


class NeedsAnsibleError(Exception):
    """This file is nothing that we read ourselves; ``reason`` continues "FILE ..."."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{shown(file)} {reason}")
        self.file = file
        self.reason = reason


def read(file: Path) -> object:
    """The file's content; None where it is empty.

    Raises NeedsAnsibleError for a vaulted file, InventoryError with line and column for a broken
    one.
    """
    text = _text(file)
    if text.startswith("$ANSIBLE_VAULT;"):
        raise NeedsAnsibleError(file, "is vaulted")
    # Ansible tries JSON first whatever the file is called, and 1e3 is a number only there.
    with suppress(ValueError):
        return json.loads(text, object_pairs_hook=from_json_object)
    return _parsed_yaml(file, text)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InventoryError(f"{shown(file)}: is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise InventoryError(f"{shown(file)}: cannot be read: {error.strerror}") from error


def _parsed_yaml(file: Path, text: str) -> object:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_duplicates(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise InventoryError(f"{shown(file)}: {_place(error)}{error.problem}") from error
    except yaml.YAMLError as error:
        raise InventoryError(f"{shown(file)}: {error}") from error


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _refuse_duplicates(root: yaml.Node) -> None:
    """Looks at the tree before it is built: later, ``<<`` makes wanted overrides look the same."""
    for mapping in _mappings(root):
        lines: dict[tuple[str, str], int] = {}
        for key, _ in mapping.value:
            name = (key.tag, str(key.value))
            if name in lines:
                raise _duplicate(key, lines[name])
            lines[name] = key.start_mark.line + 1


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _duplicate(key: yaml.Node, first: int) -> yaml.MarkedYAMLError:
    problem = f"key {key.value!r} stands already on line {first}"
    return yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)


class _Loader(SafeLoader):
    """PyYAML's safe YAML 1.1 with Ansible's tags."""


def _construct_unsafe(loader: _Loader, node: yaml.Node) -> object:
    resolved = copy.copy(node)
    resolved.tag = loader.resolve(type(node), node.value, (True, False))  # type: ignore[no-untyped-call]
    return _never_rendered(loader.construct_object(resolved, deep=True))


def _never_rendered(value: object) -> object:
    if isinstance(value, str):
        return Unsafe(value)
    if isinstance(value, dict):
        return {key: _never_rendered(item) for key, item in value.items()}
    return [_never_rendered(item) for item in value] if isinstance(value, list) else value


def _construct_vaulted(loader: _Loader, node: yaml.Node) -> Vaulted:
    if not isinstance(node, yaml.ScalarNode):
        problem = "!vault stands before something that is not text"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return Vaulted(loader.construct_scalar(node))


_Loader.add_constructor("!unsafe", _construct_unsafe)
_Loader.add_constructor("!vault", _construct_vaulted)
_Loader.add_constructor("!vault-encrypted", _construct_vaulted)
