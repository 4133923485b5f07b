
"use strict";
// A number as it is shown: "1,600", "-0.0222", "2.4e-05", "244.4 MB", "0.030 → 0.022" (the last).
const UNITS = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, "%": 0.01 };
const numberOf = (text) => {
  const found = /(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|-?inf|nan)\s*([kMGT]?B|%)?$/.exec(text);
  if (!found) return NaN;
  const value = found[1].replaceAll(",", "").replace("inf", "Infinity");
  return Number(value) * (UNITS[found[2]] ?? 1);
};
const words = new Intl.Collator("en", { numeric: true });
const compare = (isNumber) => (a, b) => {
  if (!isNumber) return words.compare(a, b);
  const [x, y] = [numberOf(a), numberOf(b)];
  // What is no number comes last.
  return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : x - y;
};

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    head.querySelector("button").addEventListener("click", () => {
      const descends = head.getAttribute("aria-sort") === "ascending";
      const isNumber = head.classList.contains("number");
      const order = compare(isNumber);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descends ? "descending" : "ascending");
      const keyed = [...body.rows].map((row) => [row.cells[at].textContent, row]);
      const last = (text) => isNumber && Number.isNaN(numberOf(text));
      keyed.sort(([a], [b]) => (descends && !last(a) && !last(b) ? order(b, a) : order(a, b)));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

const input = document.querySelector(".filter input");
if (input) {
  const table = document.querySelector("table.filtered");
  const count = document.querySelector(".count");
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const figures = [...document.querySelectorAll("figure")];
  const all = count.textContent;
  input.addEventListener("input", () => {
    const sought = input.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !texts[at].includes(sought);
      shown += !row.hidden;
    });
    const keys = new Set(rows.filter((row) => !row.hidden).map((row) => row.dataset.key));
    for (const figure of figures) {
      const key = figure.dataset.key;
      figure.hidden = !keys.has(key) && !key.toLowerCase().includes(sought);
    }
    count.textContent = sought ? `${shown} of ${all}` : all;
  });
}
