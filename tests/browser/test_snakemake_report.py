"""`snakemake --report`: one file, made and read without the network."""

import pytest

from tests.browser.conftest import console, media, size

CATEGORIES = {"Overview", "Main table", "Comparisons", "Selection", "Cost", "Learning curves", "Teacher dynamics"}
CATEGORIES |= {"Behaviour", "Classes", "Provenance"}


@pytest.fixture(scope="module")
def file(reported):
    """The report of what there is: the run that was lost is not needed."""
    reported.snakemake("--report", "report.html")
    return reported.folder / "report.html"


@pytest.fixture
def shown(browser, file):
    size(browser, 1280)
    media(browser, {})
    browser.get_log("browser")
    browser.get(file.as_uri())
    browser.implicitly_wait(10)
    yield browser
    browser.implicitly_wait(0)


def test_categories_and_labels(shown):
    found = set(shown.execute_script("return Object.keys(categories)"))
    assert found == CATEGORIES
    results = shown.execute_script("return Object.values(results)")
    assert all(set(one["labels"]) == {"shows", "as"} for one in results)
    assert all(one["caption"] for one in results)
    assert {"main.html", "index.html", "learning_curves.png", "provenance.html"} <= {one["name"] for one in results}


def test_it_opens_without_errors_and_shows_the_graph(shown):
    assert "SEVERE" not in console(shown)
    assert "Synthetic data, not GLUE" in shown.find_element("css selector", "body").text
    rules = shown.execute_script("return Object.keys(rules)")
    assert {"main_table", "learning_curves", "report"} <= set(rules)
    assert shown.execute_script("return rulegraph_spec.data.length") > 0
