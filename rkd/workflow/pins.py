"""Compare the installed packages with the versions that results are made with."""

import os
import re
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from rkd.errors import RkdError

ANYWAY = "RKD_ANY_VERSION"
_PROJECT = Path(__file__).resolve().parents[2]
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", re.MULTILINE)


def pins(project: Path = _PROJECT) -> dict[str, SpecifierSet]:
    """Return the versions expected of each package that rkd depends on.

    In a checkout these are the exact versions of requirements.lock. An rkd installed as a package has no lock, and the
    ranges that it was installed with apply.

    >>> str(pins()["torch"])
    '==2.13.0'
    """
    lock = project / "requirements.lock"
    if not lock.is_file():
        texts = [text for text in metadata.requires("rkd") or () if "extra ==" not in text]
        return {found.name: found.specifier for found in map(Requirement, texts)}
    texts = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    locked = {canonicalize_name(name): version for name, version in _LOCKED.findall(lock.read_text(encoding="utf-8"))}
    names = [Requirement(text).name for text in texts]
    return {name: SpecifierSet(f"=={locked[canonicalize_name(name)]}") for name in names}


def check(installed: Callable[[str], str] = metadata.version) -> None:
    """Refuse packages of other versions: numbers should not depend on the day of the installation.

    A build for one kind of machine, such as torch 2.13.0+cpu, is the same version. With RKD_ANY_VERSION set nothing is
    refused; run.json records the versions in any case.

    Raises:
        RkdError: names every package that is missing or has another version, with both versions.
    """
    if os.environ.get(ANYWAY):
        return
    problems = []
    for name, expected in pins().items():
        try:
            found = installed(name)
        except metadata.PackageNotFoundError:
            problems.append(f"{name}: not installed; expected {_readable(expected)}")
            continue
        if not expected.contains(found.partition("+")[0], prereleases=True):
            problems.append(f"{name}: found {found}; expected {_readable(expected)}")
    if problems:
        raise RkdError(
            f"packages: {'; '.join(problems)}. `make results` or `pip install --constraint requirements.lock "
            f"--editable .` installs them; {ANYWAY}=1 runs with these anyway"
        )


def _readable(expected: SpecifierSet) -> str:
    return str(expected).removeprefix("==")
