"""The listed code inputs of a job are the files of this project that its process really imports."""

import json
import re
import subprocess
import sys

import pytest

from rkd.methods.facts import METHODS as FACTS
from rkd.workflow.code_digest import _digest, _imports, _tree, code_digest, code_digests, code_inputs
from tests.helpers import ROOT, TIMEOUT

SCRIPTS = sorted(path.name for path in (ROOT / "workflow_scripts").glob("*.py"))
METHODS = list(FACTS)

# Runs the imports of each given script, those inside its functions too, then imports the modules named with it, and
# prints which files of rkd are loaded then. One process for all, as torch takes seconds; rkd is loaded anew each time.
PROBE = """
import ast, importlib, json, runpy, sys
from pathlib import Path
for script, *modules in json.loads(sys.argv[1]):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rkd"]:
        del sys.modules[name]
    runpy.run_path(script, run_name="probe")
    for node in ast.walk(ast.parse(Path(script).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), {})
    for name in modules:
        importlib.import_module(name)
    loaded = [module.__file__ for name, module in list(sys.modules.items()) if name.partition(".")[0] == "rkd"]
    files = sorted([script, *(str(Path(file).relative_to(Path.cwd())) for file in loaded)])
    print("PROBE", json.dumps([[script, *modules], files]))
"""


@pytest.fixture(scope="module")
def really_imported():
    """Script and modules → the files of this project that are loaded by them, as Python itself says."""
    cases = [[f"workflow_scripts/{name}"] for name in SCRIPTS if name != "train.py"]
    cases += [["workflow_scripts/train.py", f"rkd.methods.{method}"] for method in METHODS]
    command = [sys.executable, "-c", PROBE, json.dumps(cases)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    lines = [json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("PROBE ")]
    return {tuple(case): files for case, files in lines}


def training_list(method):
    return code_inputs("workflow_scripts/train.py", f"rkd.methods.{method}")


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "train.py"])
def test_a_script_is_listed_with_all_that_it_imports(script, really_imported):
    path = f"workflow_scripts/{script}"
    assert [file for file in code_inputs(path) if file.endswith(".py")] == really_imported[(path,)]


def test_what_renders_templates_lists_them():
    templates = [f"rkd/report/templates/{name}" for name in ("page.css", "sort.js", "table.html.jinja")]
    for script in ("make_main_table.py", "make_ablation_table.py", "make_report.py"):
        assert set(templates) < set(code_inputs(f"workflow_scripts/{script}"))
    assert "rkd/report/figures/rkd.mplstyle" not in code_inputs("workflow_scripts/make_main_table.py")


@pytest.mark.parametrize("method", METHODS)
def test_training_is_listed_with_its_method(method, really_imported):
    """The loop imports its method by a computed name."""
    assert training_list(method) == really_imported["workflow_scripts/train.py", f"rkd.methods.{method}"]


def test_a_method_is_retrained_only_for_what_it_uses():
    lists = {method: set(training_list(method)) for method in METHODS}
    assert "rkd/losses.py" not in lists["finetune"]
    assert "rkd/losses.py" in lists["kd"] & lists["reptile"]
    for method, files in lists.items():
        own = {f"rkd/methods/{name}.py" for name in METHODS} & files
        assert f"rkd/methods/{method}.py" in own
        assert {"rkd/training/job.py", "rkd/training/loop.py", "rkd/models/unpadded.py", "rkd/methods/base.py"} < files
        assert "workflow_scripts/train.py" in files
    assert "rkd/methods/reptile.py" not in lists["finetune"] | lists["kd"]
    assert "rkd/methods/kd.py" not in lists["finetune"]


@pytest.mark.parametrize("method", METHODS)
def test_plan_config_report_and_data_readers_retrain_nothing(method):
    files = training_list(method)
    assert not {"rkd/workflow/plan.py", "rkd/metrics/evaluate_metric.py"} & set(files)
    assert not [file for file in files if file.startswith(("rkd/config/", "rkd/report/", "rkd/data/"))]


def test_the_list_is_sorted_and_of_files_that_exist():
    files = training_list("reptile")
    assert files == sorted(set(files))
    assert all((ROOT / file).is_file() for file in files)
    assert all(file.endswith(".py") for file in files)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """`project(**files)` writes a small project of its own, by names such as rkd__a for rkd/a.py."""
    monkeypatch.setattr("rkd.workflow.code_digest.ROOT", tmp_path)

    def write(**files):
        for name, content in files.items():
            path = tmp_path / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(content)

    return write


@pytest.mark.parametrize(
    "statement",
    [
        "import rkd.pack.a",
        "import os, rkd.pack.a as x",
        "from rkd.pack import a",
        "from rkd.pack.a import something",
        "from .rkd.pack.a import something",
        "def f():\n    from rkd.pack.a import something",
        "if True:\n    try:\n        import rkd.pack.a\n    except ImportError:\n        pass",
        "try:\n    pass\nexcept ImportError:\n    import rkd.pack.a",
        "try:\n    pass\nfinally:\n    import rkd.pack.a",
        "match 1:\n    case 1:\n        import rkd.pack.a",
        "class C:\n    def f(self):\n        with open('x'):\n            import rkd.pack.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import rkd.pack.a",
    ],
)
def test_every_form_of_import_is_seen_and_followed(project, statement):
    project(main=statement, rkd__pack__a="from rkd import b", rkd__b="import json", rkd__c="", rkd__pack__d="")
    expected = ["main.py", "rkd/__init__.py", "rkd/b.py", "rkd/pack/__init__.py", "rkd/pack/a.py"]
    assert code_inputs("main.py") == expected


def test_a_package_of_data_is_listed_with_its_files_and_their_content_counts(project, tmp_path):
    project(main="from rkd import pages", rkd__a="")
    (tmp_path / "rkd/pages").mkdir()
    (tmp_path / "rkd/pages/__init__.py").touch()
    page = tmp_path / "rkd/pages/page.jinja"
    page.write_text("one {# comment #}")
    assert code_inputs("main.py") == ["main.py", "rkd/__init__.py", "rkd/pages/__init__.py", "rkd/pages/page.jinja"]
    before = code_digest("main.py")
    page.write_text("two")
    for cached in (_tree, _digest, _imports, code_digest):
        cached.cache_clear()
    assert code_digest("main.py") != before


@pytest.mark.parametrize(
    "statement",
    [
        "import os.path, json",
        "import rkdother.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rkd.a import something",
        "text = 'import rkd.a'",
        "# import rkd.a",
    ],
)
def test_nothing_else_is_listed(project, statement):
    project(main=statement, rkd__a="")
    assert code_inputs("main.py") == ["main.py"]


@pytest.mark.parametrize(
    "statement",
    ["from . import b", "from .b import x", "from .. import pack\nfrom ..pack import b", "from ..pack.b import x"],
)
def test_relative_imports_are_followed(project, statement):
    project(main="import rkd.pack.a", rkd__pack__a=statement, rkd__pack__b="B = 1", rkd__b="")
    expected = ["main.py", "rkd/__init__.py", "rkd/pack/__init__.py", "rkd/pack/a.py", "rkd/pack/b.py"]
    assert code_inputs("main.py") == expected


def test_circles_end(project):
    project(main="import rkd.a", rkd__a="import rkd.b", rkd__b="import rkd.a")
    assert code_inputs("main.py") == ["main.py", "rkd/__init__.py", "rkd/a.py", "rkd/b.py"]


def test_every_listed_file_has_a_digest():
    digests = code_digests("workflow_scripts/train.py", "rkd.methods.kd")
    assert list(digests) == training_list("kd")
    assert all(re.fullmatch(r"[0-9a-f]{12}", digest) for digest in digests.values())


def test_one_digest_for_all_files_sees_each_of_them_and_their_names(project):
    def digest(**files):
        project(**files)
        for cached in (_tree, _digest, _imports, code_digest):
            cached.cache_clear()
        return code_digest("main.py")

    first = digest(main="import rkd.a, rkd.b", rkd__a="A = 1", rkd__b="B = 2")
    assert re.fullmatch(r"[0-9a-f]{12}", first)
    assert digest(main="import rkd.a, rkd.b", rkd__a="A = 1", rkd__b="B = 2") == first
    assert digest(rkd__a="A = 2") != first, "edited"
    assert digest(rkd__a="B = 2", rkd__b="A = 1") != first, "swapped"


FUNCTION = '''
"""Module."""
import math


def area(radius: float) -> float:
    """Area of a circle."""
    # Comment.
    return math.pi * radius**2
'''


def digest_of(tmp_path, text):
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
    path.write_text(text)
    return _digest(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Comment.", "# Another comment."),
        ("    # Comment.\n", ""),
        ("Area of a circle.", "The area of a circle, in the unit of the radius squared."),
        ('    """Area of a circle."""\n', ""),
        ('"""Module."""\n', ""),
        ("math.pi * radius**2", "(math.pi\n        * radius ** 2)"),
    ],
)
def test_the_digest_leaves_out_layout_and_words(tmp_path, old, new):
    assert old in FUNCTION
    assert digest_of(tmp_path, FUNCTION) == digest_of(tmp_path, FUNCTION.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("radius**2", "radius**3"),
        ("radius**2", "radius**2.0"),
        ("radius**2", "(-radius)**2"),
        ("math.pi * radius", "radius * math.pi"),
        ("math.pi", "math.tau"),
        ("import math", "import cmath as math"),
        ("(radius: float)", "(radius: float = 1.0)"),
        ("(radius: float)", "(radius: float = None)"),
        ("(radius: float)", "(*, radius: float)"),
        ("return math.pi * radius**2", "return None"),
        ("return math.pi * radius**2", "return"),
    ],
)
def test_the_digest_sees_what_code_does(tmp_path, old, new):
    assert old in FUNCTION
    assert digest_of(tmp_path, FUNCTION) != digest_of(tmp_path, FUNCTION.replace(old, new))


MESSAGES = """
import logging
import warnings
log = logging.getLogger("rkd")


class FitError(ValueError):
    pass


def check(values, mode="strict"):
    log.info("checking %d values", len(values))
    log.warning(f"mode {mode}: slow")
    warnings.warn("old values")
    if mode == "lenient":
        error = FitError("too many " + "values")
        return {"error": error, "label": "lenient"}
    if len(values) > 3:
        raise FitError(f"found {len(values)} values; expected 3")
    raise SystemExit(2)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"checking %d values"', '"%d values are being checked"'),
        ('f"mode {mode}: slow"', 'f"{mode} is a slow mode"'),
        ('f"mode {mode}: slow"', '"slow"'),
        ('"old values"', '"values of an old kind"'),
        ('"too many "', '"more than three "'),
        ('f"found {len(values)} values; expected 3"', 'f"values: found {len(values)}; expected 3"'),
        ('f"found {len(values)} values; expected 3"', '"too many values"'),
    ],
)
def test_a_reworded_message_is_no_change(tmp_path, old, new):
    assert old in MESSAGES
    assert digest_of(tmp_path, MESSAGES) == digest_of(tmp_path, MESSAGES.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('mode="strict"', 'mode="lax"'),
        ('mode == "lenient"', 'mode == "lax"'),
        ('"label": "lenient"', '"name": "lenient"'),
        ('"label": "lenient"', '"label": "lax"'),
        ("> 3", "> 4"),
        ("SystemExit(2)", "SystemExit(3)"),
        ("raise FitError(", "raise ValueError("),
        ("log.warning", "log.error"),
        ('getLogger("rkd")', 'getLogger("other")'),
    ],
)
def test_what_is_no_message_stays_in_the_digest(tmp_path, old, new):
    assert old in MESSAGES
    assert digest_of(tmp_path, MESSAGES) != digest_of(tmp_path, MESSAGES.replace(old, new))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_version_is_no_part_of_any_job(script):
    methods = [f"rkd.methods.{method}" for method in METHODS] if script == "train.py" else []
    assert "rkd/_version.py" not in code_inputs(f"workflow_scripts/{script}", *methods)
