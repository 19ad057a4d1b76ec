"use strict";
// Sort tables by a click on a column header: numbers numerically, missing values last, within each section.
const BLANK = /^[–-]?$/;

const columnOf = (row, wanted) => {
  let place = 0;
  for (const cell of row.cells) {
    if (place <= wanted && wanted < place + cell.colSpan) return cell;
    place += cell.colSpan;
  }
  return null;
};

const valueOf = (row, column) => {
  const text = (columnOf(row, column)?.textContent ?? "").trim().replace(/−/g, "-");
  const number = text.match(/^[<+]?(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/);
  if (BLANK.test(text)) return { missing: true };
  return number ? { number: parseFloat(number[1]), text } : { text };
};

const compare = (a, b) =>
  a.number !== undefined && b.number !== undefined ? a.number - b.number : a.text.localeCompare(b.text, "en");

const sortBy = (table, head, column) => {
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("thead .heads th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains("section"));
    const keyed = rows.map((row) => ({ row, key: valueOf(row, column) }));
    keyed.sort((one, two) => {
      const a = one.key, b = two.key;
      if (a.missing || b.missing) return Boolean(a.missing) - Boolean(b.missing);
      return descending ? compare(b, a) : compare(a, b);
    });
    for (const { row } of keyed) body.append(row);
  }
};

for (const table of document.querySelectorAll("table")) {
  [...table.querySelectorAll("thead .heads th")].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, head, column));
    head.append(button);
  });
}
