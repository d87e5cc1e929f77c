"""Jinja templates in variables, as Ansible renders them: lazily, in a sandbox, keeping types."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, Template, TemplateError, Undefined, UndefinedError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inventories.errors import InventoryError
from inventories.values import Unsafe, Vaulted

if TYPE_CHECKING:
    from inventories.model import Host

KeyPath = tuple[str, ...]
"""A variable's name and the keys below it; empty for a value that is no host's variable."""

_RESULT = "result"


class Renderer:
    """Renders one host's variables; knows which templates are underway, to notice a loop."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._underway: list[KeyPath] = []

    def variable(self, name: str) -> object:
        """A variable of the host, rendered. Raises InventoryError."""
        return self.value(self.host.variables[name], (name,))

    def value(self, value: object, path: KeyPath = ()) -> object:
        """``value`` rendered; ``path`` is where it stands, for errors. Raises InventoryError."""
        if isinstance(value, Mapping):
            return {key: self.value(item, (*path, str(key))) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, (*path, str(index))) for index, item in enumerate(value)]
        if isinstance(value, Unsafe):
            return str(value)
        return self._text(value, path) if isinstance(value, str) else value

    def for_template(self, value: object, path: KeyPath) -> object:
        """``value`` for use in a template: a mapping may refer to its own other keys."""
        return _Lazy(self, value, path) if isinstance(value, Mapping) else self.value(value, path)

    def _text(self, text: str, path: KeyPath) -> object:
        with self._located(path):
            if isinstance(text, Vaulted):
                text = _decrypted(text)
            if not any(mark in text for mark in ("{{", "{%", "{#")):
                return text
            return _compiled(text).render(_Scope(self))

    @contextmanager
    def _located(self, path: KeyPath) -> Iterator[None]:
        """Any error of a template, starting with its place; the host, as others may be fine."""
        self._refuse_loop(path)
        self._underway.append(path)
        try:
            yield
        except InventoryError:
            raise
        except Exception as error:  # a template can raise anything: it calls what it likes
            problem = error.message if isinstance(error, TemplateError) else error
            where = self._where(path)
            raise InventoryError(f"{where}: {problem} (host {self.host.name})") from error
        finally:
            self._underway.pop()

    def _refuse_loop(self, path: KeyPath) -> None:
        if path in self._underway:
            loop = [*self._underway[self._underway.index(path) :], path]
            chain = " -> ".join(".".join(step) for step in loop)
            raise InventoryError(f"{self._where(path)}: needs itself: {chain}")

    def _where(self, path: KeyPath) -> str:
        return self.host.where(*path) if path else self.host.home


class _Scope(dict[str, Any]):
    """A template's names, each rendered only when the template asks for it."""

    def __init__(self, renderer: Renderer) -> None:
        super().__init__()
        self.renderer = renderer
        self.others = {**_environment().globals, **renderer.host.magic}

    def __contains__(self, name: object) -> bool:
        return name in self.others or name in self.renderer.host.variables

    def __getitem__(self, name: str) -> object:
        if name in self.others:
            return self.others[name]
        return self.renderer.for_template(self.renderer.host.variables[name], (name,))


class _Lazy(Mapping[str, object]):
    """A mapping in a template, each value rendered only when the template asks for it."""

    def __init__(self, renderer: Renderer, raw: Mapping[str, object], path: KeyPath) -> None:
        self.renderer = renderer
        self.raw = raw
        self.path = path

    def __getitem__(self, key: str) -> object:
        return self.renderer.for_template(self.raw[key], (*self.path, str(key)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


class _Undefined(StrictUndefined):
    @property
    def _undefined_message(self) -> str:
        if isinstance(self._undefined_obj, _Lazy):
            return f"{'.'.join(self._undefined_obj.path)} has no key {self._undefined_name!r}"
        return super()._undefined_message


@dataclass(frozen=True)
class _Compiled:
    template: Template
    is_expression: bool

    def render(self, scope: _Scope) -> object:
        context = self.template.new_context(scope, shared=True)
        text = "".join(self.template.root_render_func(context))
        return _plain(context.vars[_RESULT]) if self.is_expression else text


@lru_cache(maxsize=4096)
def _compiled(text: str) -> _Compiled:
    environment = _environment()
    # A YAML block ends in a newline, and is one expression nevertheless.
    match environment.parse(text.removesuffix("\n")).body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
            result = nodes.Assign(nodes.Name(_RESULT, "store"), expression, lineno=1)
            template = nodes.Template([result], lineno=1)
            template.set_environment(environment)
            return _Compiled(environment.from_string(template), is_expression=True)
    return _Compiled(environment.from_string(text), is_expression=False)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=_Undefined, keep_trailing_newline=True, finalize=_in_text
    )
    environment.globals["lookup"] = _lookup
    environment.filters |= {
        "basename": posixpath.basename,
        "dirname": posixpath.dirname,
        "mandatory": _mandatory,
    }
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _plain}
    return environment


def _in_text(value: object) -> object:
    return "" if value is None else _plain(value)


def _plain(value: object) -> object:
    """What a template computed, without laziness. Raises UndefinedError."""
    if isinstance(value, Undefined):
        str(value)  # raises: it is strict
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [_plain(item) for item in value]
    return value


def _decrypted(ciphertext: str) -> str:
    from inventories.ansible import decrypted

    return decrypted(str(ciphertext))


def _lookup(plugin: str, name: str, default: str = "") -> str:
    if plugin.removeprefix("ansible.builtin.") != "env":
        raise TemplateError(f"there is no lookup({plugin!r}) here, only lookup('env', NAME)")
    return os.environ.get(name, default)


def _mandatory(value: object, message: str | None = None) -> object:
    if isinstance(value, Undefined) and message:
        raise UndefinedError(message)
    return _plain(value)
