"""The documentation: the site builds, links lead somewhere, commands and code blocks are what they say they are."""

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from rkd.config.schema import schema
from rkd.layer_map import STRATEGIES, LayerMap
from rkd.methods.facts import METHODS
from rkd.tasks import TASKS
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.models import bert, random_batch

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "results/published/*/README.md")
    for page in ROOT.glob(pattern)
)
# Files that examples of commands and of links let the reader write.
OF_THE_READER = {"mine.yaml", "tickets.yaml", "results/NAME/tuned_teacher.yaml", "results/NAME/tuned.yaml"}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The contents of the fenced code blocks of a language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text(page), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", content, flags=re.MULTILINE) for indent, content in found]


# --- links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files(page: str) -> None:
    prose = re.sub(r"^ *```.*?^ *```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    inline = re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", prose)
    references = re.findall(r"^\[[^\]]+\]: ([^\s:#]+)$", prose, re.MULTILINE)
    missing = [target for target in inline + references if not (ROOT / page).parent.joinpath(target).exists()]
    assert missing == []


def test_the_readme_maps_every_folder_of_the_package() -> None:
    mapped = re.findall(r"^\| \[(\w+)\]\(rkd/\1\) \|", text("README.md"), re.MULTILINE)
    assert sorted(mapped) == sorted(init.parent.name for init in (ROOT / "rkd").glob("*/__init__.py"))


# --- commands -----------------------------------------------------------------------------------------------


def commands(page: str) -> Iterator[list[str]]:
    """The words of every command that a page lets the reader type, without variables set before it."""
    for block in blocks(page, "console"):
        for command in re.findall(r"^\$ (.*)$", block.replace("\\\n", " "), re.MULTILINE):
            words = shlex.split(command, comments=True)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words:
                yield words


def rule_names() -> set[str]:
    """Targets of the Snakefile: its rules, a target per task and one per axis of the configs."""
    files = [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")]
    names = {name for file in files for name in re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE)}
    configs = [yaml.safe_load(file.read_text()) for file in [ROOT / "config.yaml", *ROOT.glob("configs/*.yaml")]]
    axes = {axis for config in configs for axis in config.get("ablations") or {}}
    return names | {"tune", "tune_teacher"} | {f"{task}_all" for task in TASKS} | {f"ablation_{axis}" for axis in axes}


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))])
def test_commands_name_what_there_is(page: str) -> None:
    makefile = text("Makefile")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for command in commands(page):
        name, *arguments = (word for word in command if word != "…")
        if name == "make":
            assert {word for word in arguments if "=" not in word} <= set(phony.split()), command
        elif name == "snakemake":
            check_snakemake(arguments)
        elif arguments[:1] == ["-m"] and name == "python":
            assert importlib.util.find_spec(arguments[1]) is not None, command
        elif name == "rkd":
            check_rkd(arguments)
        elif name == "python":
            assert (ROOT / arguments[0]).is_file(), command


def check_snakemake(arguments: list[str]) -> None:
    from snakemake.cli import get_argument_parser

    try:
        parsed: argparse.Namespace = get_argument_parser().parse_args(arguments)
    except SystemExit:
        pytest.fail(f"snakemake does not know {shlex.join(arguments)}")
    targets = {word for word in parsed.targets if not word.startswith("results/")}
    assert targets | set(parsed.until or ()) | set(parsed.forcerun or ()) <= rule_names(), arguments
    for file in parsed.configfile or ():
        assert (ROOT / file).is_file() or str(file) in OF_THE_READER, arguments
    if parsed.workflow_profile:
        assert (ROOT / parsed.workflow_profile / "config.yaml").is_file(), arguments
    keys = {setting.partition("=")[0] for setting in parsed.config or ()}
    assert keys <= set(schema()["properties"]), arguments


def check_rkd(arguments: list[str]) -> None:
    from typer.main import get_command

    from rkd.cli import app

    name, *rest = arguments
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, rest)  # raises on what the command does not know; runs nothing


# --- code ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "docs/writing-a-method.md"])
def test_python_blocks_run_on_small_models(page: str) -> None:
    """One after the other, with the names that the text takes for granted."""
    batches = [random_batch(seed) for seed in range(3)]
    given = {"student": bert(6, seed=1), "teacher": bert(12, seed=2).eval(), "batches": batches, "__name__": "docs"}
    before = given["student"].classifier.weight.clone()
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), given)
    assert set(given["losses"]) >= {"loss", "task", "kd"}
    assert not before.equal(given["student"].classifier.weight)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_compile(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block.replace(", …", ""), page, "exec")


# --- pictures -----------------------------------------------------------------------------------------------


def test_the_picture_of_layer_maps_shows_the_layer_maps() -> None:
    picture = ET.parse(ROOT / "docs/images/layer_maps.svg")
    drawn = {line.attrib["id"] for line in picture.iter("{http://www.w3.org/2000/svg}line")}
    maps = {name: LayerMap.from_strategy(name, student_layers=3, teacher_layers=6) for name in STRATEGIES}
    expected = {
        f"{name}-{layer}-{target}" for name in maps for layer, row in maps[name].targets.items() for target in row
    }
    assert drawn == expected


# --- site ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with warnings as errors."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_every_page_of_docs_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert (site / name).is_file()
        assert f'href="{name}"' in start


class Fetched(HTMLParser):
    """Addresses that a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if "src" in values or tag == "link":
            self.addresses.append(values.get("src") or values.get("href") or "")


def test_reading_the_site_needs_no_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.addresses
        assert not [address for address in parser.addresses if re.match(r"(\w+:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_equations_are_mathml_without_leftover_tex(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    equations = re.findall(r"<math.*?</math>", method, re.DOTALL)
    tex = blocks("docs/method.md", "math") + re.findall(r"\$`.*?`\$", text("docs/method.md"))
    assert len(equations) == len(tex) > 5
    assert not [equation for equation in equations if "\\" in equation]
    assert "$<code>" not in method


def keys(properties: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, rule in properties.items():
        yield (*above, name), rule
        if "maxProperties" not in rule:  # else the user picks keys that another section explains
            yield from keys(rule.get("properties", {}), (*above, name))


def reference() -> dict[str, str]:
    """The configuration reference by key, as the hook makes it for the page."""
    location = ROOT / "docs/hooks/configuration.py"
    spec = importlib.util.spec_from_file_location("configuration_hook", location)
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.on_page_markdown(text("docs/configuration.md"))
    return dict(re.findall(r"^#{2,3} ([\w.]+)\n\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL))


def test_the_reference_has_every_key_with_default_range_and_comment() -> None:
    entries = reference()
    defaults = yaml.safe_load(text("config.yaml"))
    rules = dict(keys(schema()["properties"]))
    assert list(entries) == [".".join(path) for path in rules]
    for path, rule in rules.items():
        entry, value = entries[".".join(path)], defaults
        for name in path:
            value = value[name]
        first, _, comment = entry.partition("\n\n")
        if not isinstance(value, dict):
            stated = re.match(r"Default `(.*?)` · allowed: ", first, re.DOTALL)
            assert stated is not None, path
            assert yaml.safe_load(stated[1]) == value, path
            bounds = [rule[name] for name in rule if name in ("minimum", "exclusiveMinimum", "exclusiveMaximum")]
            named = [*bounds, *map(str, rule.get("enum", ()))]
            assert all(str(item) in first for item in named if "x-allowed" not in rule), path
            assert len(comment.split()) >= 2, path
        else:
            assert len(entry.split()) >= 2, path


def test_the_reference_says_which_methods_read_an_option() -> None:
    entries = reference()
    for method, facts in METHODS.items():
        for option in facts.options:
            assert f"`{method}`" in entries[f"student.{option}"]
    assert "read by" not in entries["student.epochs"]


# --- issue templates ----------------------------------------------------------------------------------------


def test_issue_templates_have_the_parts_that_a_form_needs() -> None:
    forms = [file for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if file.name != "config.yml"]
    assert forms
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(content), form
        assert all(part["attributes"]["label"] for part in content["body"]), form
