"""The report as a reader meets it: in a browser, sorted, on a phone, in the dark, printed."""

import base64

import pytest

from tests.browser.conftest import LONG, console, media, size

CONTRAST = """
const channel = (x) => { x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const paper = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = numbers(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  throw new Error("no background");
};
return [...document.querySelectorAll("h1, h2, h3, p, li, a, td, th, dt, dd, pre, summary, .deviation")]
  .filter((element) => element.textContent.trim() && !element.closest(".unseen"))
  .map((element) => {
    const [a, b] = [numbers(getComputedStyle(element).color), paper(element)].map(light).sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), element.tagName + ": " + element.textContent.trim().slice(0, 40)];
  });
"""


def column(page, table, number):
    """Texts of a column of a table, section by section, titles left out."""
    bodies = page.find_elements("css selector", f"#{table} tbody")
    rows = [body.find_elements("css selector", "tr:not(.section)") for body in bodies]
    return [[row.find_elements("css selector", "th, td")[number].text for row in body] for body in rows]


def test_nothing_is_written_to_the_console_and_nothing_is_fetched(page):
    assert console(page) == "[]"
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_links_lead_somewhere(page):
    links = page.find_elements("css selector", "a")
    assert len(links) > 20
    for link in links:
        address = link.get_dom_attribute("href")
        if address.startswith("#"):
            assert page.find_elements("css selector", address), address
        else:
            kind, content = address.split(",", 1)
            assert kind.startswith("data:")
            assert base64.b64decode(content), link.get_dom_attribute("download")
            assert "." in link.get_dom_attribute("download")
    page.find_element("link text", "Provenance").click()
    assert page.execute_script("return location.hash") == "#provenance-heading"
    assert page.execute_script("return document.getElementById('provenance-heading').getBoundingClientRect().top") < 844


def test_figures_are_shown(page):
    sizes = page.execute_script("return [...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) >= 3
    assert min(sizes) > 500


def test_a_click_sorts_and_another_turns_round(page):
    before = column(page, "main", 1)
    head = page.find_elements("css selector", "#main .heads th")[1]
    head.find_element("css selector", "button").click()
    assert head.get_dom_attribute("aria-sort") == "ascending"
    (numbers,) = [[float(text.split()[0]) for text in body] for body in column(page, "main", 1)]
    assert numbers == sorted(numbers)
    head.find_element("css selector", "button").click()
    assert head.get_dom_attribute("aria-sort") == "descending"
    after = column(page, "main", 1)
    assert [float(text.split()[0]) for text in after[0]] == sorted(numbers, reverse=True)
    assert sorted(after[0]) == sorted(before[0])


def test_sections_are_sorted_apart_and_missing_values_stay_last(page):
    heads = page.find_elements("css selector", "#comparisons .heads button")
    sections = [title.text for title in page.find_elements("css selector", "#comparisons .section")]
    for _ in range(2):
        heads[2].click()
        bodies = column(page, "comparisons", 2)
        assert len(bodies) == len(sections) == 2
        assert any("–" in body for body in bodies), "the lost run has no difference"
        for body in bodies:
            known = [text for text in body if text != "–"]
            assert body == known + ["–"] * (len(body) - len(known))
    values = [float(text.replace("−", "-")) for text in known]
    assert values == sorted(values, reverse=True), "the second click turns round; a minus is a minus"
    assert [title.text for title in page.find_elements("css selector", "#comparisons .section")] == sections


def test_rows_sort_by_name_too(page):
    button = page.find_elements("css selector", "#rows .heads button")[0]
    button.click()
    (names,) = column(page, "rows", 0)
    assert names == sorted(names)
    assert LONG in names


def test_a_phone_shows_it_without_moving_the_page_sideways(page):
    size(page, 390)
    width, shown = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert shown == 390
    assert width <= 390
    wide = "return [...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length"
    assert page.execute_script(wide) > 0, "wide tables scroll in a box of their own"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page, scheme):
    media(page, {"prefers-color-scheme": scheme})
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    found = page.execute_script(CONTRAST)
    assert len(found) > 100
    assert min(found)[0] >= 4.5, min(found)
    under = "return [...document.querySelectorAll('figure .scroll')].map((x) => getComputedStyle(x).backgroundColor)"
    assert set(page.execute_script(under)) == {"rgb(255, 255, 255)"}, "figures lie on white"


def test_a_lost_run_is_told_with_its_error(page):
    text = page.find_element("id", "missing-runs").text
    assert "reptile mrpc 1 failed RuntimeError: out of <memory>" in text


def test_it_prints(page):
    printed = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert printed.startswith(b"%PDF")
    assert 3 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 30
    media(page, {}, kind="print")
    size(page, 680)  # A4 between its margins
    assert not page.find_element("css selector", "nav").is_displayed()
    place = "return [...document.querySelectorAll('#provenance thead th')].findIndex((x) => x.textContent == 'Machine')"
    machine = page.find_elements("css selector", "#provenance tbody tr:last-child > *")[page.execute_script(place)]
    page.execute_script("arguments[0].textContent = 'Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz'", machine)
    cut = "return [...document.querySelectorAll('table')].filter((x) => x.getBoundingClientRect().right > innerWidth)"
    assert [table.get_dom_attribute("id") for table in page.execute_script(cut)] == []
