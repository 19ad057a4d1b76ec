"""The default config with changes."""

import copy
import json
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config  # how Snakemake itself lays overlays over config.yaml

from rkd.config import load
from rkd.workflow.plan import Plan
from tests.helpers import ROOT

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
# The cases speak of the three rows alone: the control and the axis would add problems of their own.
del DEFAULT["variants"]["no-lookahead"], DEFAULT["ablations"]["teacher-lr"]


def merged(*overlays: str) -> dict[str, Any]:
    """The default config with overlays, given as YAML text as a user writes them."""
    result = copy.deepcopy(DEFAULT)
    for overlay in overlays:
        update_config(result, yaml.safe_load(overlay))
    return result


def plan_of(**changes):
    """The plan of config.yaml with other keys."""
    settings = yaml.safe_load((ROOT / "config.yaml").read_text())
    settings |= {"variants": {"kd": {"method": "kd"}}, "ablations": {}, "tasks": ["rte"], "max_length": 16}
    return Plan(load.load(settings | changes))


def edit(file: Path, **fields):
    """Change fields of a JSON file; None deletes one."""
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
