"""MkDocs hook: the reference of all configuration keys, made from the schema, config.yaml and the methods' options."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import yaml

from rkd.config.schema import allowed, schema
from rkd.methods.facts import METHODS

MARK = "<!-- every key -->"
DEFAULTS = Path(__file__).parents[2] / "config.yaml"
KeyPath = tuple[str, ...]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the reference in place of the mark."""
    return markdown.replace(MARK, reference(schema(), DEFAULTS.read_text(encoding="utf-8")))


def reference(schema: Mapping[str, Any], defaults: str) -> str:
    """Markdown: a heading, the range, the default and the comment of every key.

    Args:
        schema: the JSON Schema of the config.
        defaults: the text of config.yaml, in which a comment stands above every key.
    """
    comments = dict(_comments(defaults))
    values = yaml.safe_load(defaults)
    return "\n\n".join(
        _entry(path, rule, _value(values, path), comments[path]) for path, rule in keys(schema["properties"])
    )


def keys(properties: Mapping[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Every key of the schema with its rule, sections before their keys; not those that another section explains."""
    for name, rule in properties.items():
        yield (*above, name), rule
        if "maxProperties" not in rule:  # else the user picks some of them
            yield from keys(rule.get("properties", {}), (*above, name))


def _entry(path: KeyPath, rule: Mapping[str, Any], value: Any, comment: str) -> str:
    name = ".".join(path)
    level = "##" if len(path) == 1 else "###"
    if isinstance(value, dict):  # a section, or the rows and axes of the default
        return "\n".join([f"{level} {name}\n", comment, *_members(rule)])
    facts = [f"Default `{_yaml(value)}`", f"allowed: {allowed(rule)}"]
    readers = [method for method, facts in METHODS.items() if path[-1] in facts.options]
    if path[0] == "student" and readers:
        facts.append("read by " + ", ".join(f"`{method}`" for method in readers))
    return f"{level} {name}\n\n{' · '.join(facts)}\n\n{comment}"


def _members(rule: Mapping[str, Any]) -> Iterator[str]:
    """The keys of each entry of a section whose names are the user's, but for those of the section student."""
    members = rule.get("additionalProperties") or {}
    own = {key: value for key, value in members.get("properties", {}).items() if key not in _student()}
    if own:
        yield "\nKeys of each entry:\n"
    for key, value in own.items():
        required = " (required)" if key in members.get("required", ()) else ""
        yield f"* `{key}`{required}: {allowed(value)}. {value['description']}"
        if key == "method":
            yield from (f"    * `{name}`: {facts.summary}" for name, facts in METHODS.items())


def _student() -> Mapping[str, Any]:
    keys: Mapping[str, Any] = schema()["properties"]["student"]["properties"]
    return keys


def _value(values: Any, path: KeyPath) -> Any:
    for name in path:
        values = values[name]
    return values


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


def _comments(text: str) -> Iterator[tuple[KeyPath, str]]:
    """The comment above every key; indented lines of it are an example and stay as they are."""
    lines = text.splitlines()
    for path, line in _lines(yaml.compose(text, Loader=yaml.SafeLoader)):
        start = line
        while lines[start - 1].lstrip().startswith("#"):
            start -= 1
        yield path, _markdown([entry.lstrip().removeprefix("#").removeprefix(" ") for entry in lines[start:line]])


def _lines(node: yaml.MappingNode, above: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    for key, value in node.value:
        yield (*above, key.value), key.start_mark.line
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _lines(value, (*above, key.value))


def _markdown(lines: list[str]) -> str:
    text = "\n".join(lines) + "\n"
    example = re.compile(r"(?:^ +.*\n)+", re.MULTILINE)
    return example.sub(lambda match: f"\n```text\n{dedent(match[0])}```\n\n", text).strip()
