"use strict";
const words = new Intl.Collator("en", { numeric: true });
const valueOf = (cell) => (cell.dataset.value === undefined ? NaN : Number(cell.dataset.value));
const compare = (isNumber) => (a, b) => {
  if (!isNumber) return words.compare(a.textContent, b.textContent);
  const [x, y] = [valueOf(a), valueOf(b)];
  // What is no number comes last.
  return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : x - y;
};

// Pictures stand in the order of the rows of the last table.
const panels = document.querySelector(".panels");
const figures = panels ? [...panels.children] : [];
const arrange = (body) => {
  const places = new Map([...body.rows].map((row, at) => [row.dataset.key, at]));
  const place = (figure) => places.get(figure.dataset.key) ?? Infinity;
  panels?.append(...[...figures].sort((a, b) => place(a) - place(b) || 0));
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
      const last = (cell) => isNumber && Number.isNaN(valueOf(cell));
      const keyed = [...body.rows].map((row) => [row.cells[at], row]);
      keyed.sort(([a], [b]) => (descends && !last(a) && !last(b) ? order(b, a) : order(a, b)));
      body.append(...keyed.map(([, row]) => row));
      if (table.classList.contains("filtered")) arrange(body);
    });
  });
}

for (const box of document.querySelectorAll(".more input")) {
  const table = box.closest("section").querySelector("table");
  box.addEventListener("change", () => table.classList.toggle("whole", box.checked));
}

// The patterns of the command line: * ? [abc] [!abc] {a,b} {0..8}, against the whole key.
const isPattern = (text) => /[*?[{]/.test(text);
const regexOf = (text) => {
  let source = "";
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const rest = text.slice(at);
    const range = /^\{(\d{1,9})\.\.(\d{1,9})\}/.exec(rest);
    const set = /^\[(!?)([^\]]+)\]/.exec(rest);
    if (range) {
      const [low, high] = [Number(range[1]), Number(range[2])];
      const numbers = Array.from({ length: Math.min(10000, high - low + 1) }, (_, n) => low + n);
      source += `(?:${numbers.join("|")})`;
      at += range[0].length - 1;
    } else if (set) {
      source += `[${set[1] && "^"}${set[2].replace(/[\\^\]]/g, "\\$&")}]`;
      at += set[0].length - 1;
    } else if (text[at] === "{" && rest.includes("}")) {
      depth += 1;
      source += "(?:";
    } else if (text[at] === "}" && depth) {
      depth -= 1;
      source += ")";
    } else if (text[at] === "," && depth) source += "|";
    else if (text[at] === "*") source += ".*";
    else if (text[at] === "?") source += ".";
    else source += text[at].replace(/[\\^$.|+()[\]{}/-]/g, "\\$&");
  }
  try {
    return new RegExp(`^${source}${")".repeat(depth)}$`, "su");
  } catch {
    return null;
  }
};

const input = document.querySelector(".filter input");
if (input) {
  const table = document.querySelector("table.filtered");
  const count = document.querySelector(".count");
  const nothing = document.querySelector(".nothing");
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const all = count.textContent;
  input.addEventListener("input", () => {
    const sought = input.value.trim();
    const regex = isPattern(sought) ? regexOf(sought) : null;
    const part = sought.toLowerCase();
    const matches = (key, text) => (regex ? regex.test(key) : text.includes(part));
    let shown = 0;
    rows.forEach((row, at) => {
      row.hidden = !matches(row.dataset.key ?? row.cells[0].textContent, texts[at]);
      shown += !row.hidden;
    });
    const keys = new Set(rows.filter((row) => !row.hidden).map((row) => row.dataset.key));
    for (const figure of figures) {
      const key = figure.dataset.key;
      figure.hidden = !keys.has(key) && !matches(key, key.toLowerCase());
    }
    count.textContent = sought ? `${shown.toLocaleString("en")} of ${all}` : all;
    nothing.hidden = shown > 0;
  });
}
