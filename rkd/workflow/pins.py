"""Are the installed packages those that the project is made for?"""

import os
import re
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from rkd.errors import RkdError

ANYWAY = "RKD_ANY_VERSION"
_PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")


def pins() -> dict[str, str]:
    """The exact versions that pyproject.toml asks for, or the installed rkd where that file is not beside it.

    >>> pins()["torch"]
    '2.13.0'
    """
    if _PYPROJECT.is_file():
        requirements = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        requirements = [text for text in metadata.requires("rkd") or () if "extra ==" not in text]
    return {match[1]: match[2] for text in requirements if (match := _PIN.match(text))}


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
    for name, version in pins().items():
        try:
            found = installed(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found.partition("+")[0] != version:
            problems.append(f"{name}: found {found}, expected {version}")
    if problems:
        raise RkdError(
            f"packages: {'; '.join(problems)}. `make results` or `pip install -e .` installs them; {ANYWAY}=1 runs "
            "with these anyway"
        )
