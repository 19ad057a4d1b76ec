"""The Slurm profile against the rules: which become jobs, and that each setting gives its reason."""

import re

import yaml

from tests.helpers import ROOT

TEXT = (ROOT / "profiles/slurm/config.yaml").read_text()
PROFILE = yaml.safe_load(TEXT)
DEFAULT = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())


def test_every_rule_is_quick_and_local_or_asks_for_its_resources() -> None:
    """But for the tables and figures, which one loop declares, and all of them local."""
    text = "".join(path.read_text() for path in ROOT.glob("rules/*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.M))
    local = set(re.findall(r"^rule (\w+):\n(?:(?: .*)?\n)*?    localrule: True$", text, re.M))
    asking = PROFILE["set-resources"]
    assert local | asking.keys() == rules
    assert not local & asking.keys()
    assert set(PROFILE["set-threads"]) <= asking.keys()


def test_every_job_asks_for_memory_time_and_a_gpu() -> None:
    for rule, resources in PROFILE["set-resources"].items():
        asked = PROFILE["default-resources"] | resources
        assert {"mem_mb", "runtime", "gpu"} <= asked.keys(), rule
        # The plugin would hand both to sbatch.
        assert "gres" not in asked, rule


def test_what_is_set_for_one_machine_is_set_for_a_cluster_too() -> None:
    """A workflow profile stands in place of profiles/default, but for the one machine's limits (`resources`)."""
    expected = {key: value for key, value in DEFAULT.items() if key != "resources"}
    assert {key: PROFILE.get(key) for key in expected} == expected
    # These would be the limits of all jobs together.
    assert "resources" not in PROFILE


def test_every_setting_gives_its_reason_above_it() -> None:
    lines = TEXT.splitlines()
    silent = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if re.match(r"[a-z-]+:", line) and not above.startswith("#")
    ]
    assert silent == []
