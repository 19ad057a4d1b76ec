"""The project's folder: the clone, or the folder that the package is installed in."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def found_file(path: str) -> Path:
    """Return a path, in the project's folder if it is relative and the working directory has no such file.

    So `configs/models/bert-2x128.json` means the project's model wherever the workflow is started.

    >>> found_file("configs/models/bert-2x128.json").is_file()
    True
    """
    place = Path(os.path.expanduser(path))
    return ROOT / place if not place.exists() and (ROOT / place).exists() else place
