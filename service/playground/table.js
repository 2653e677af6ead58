// Tables with named rows and columns. A wide table scrolls, also with the keyboard.
import { element } from "./element.js";

// `rows` are [name, cells]; numbers in cells are already formatted as text.
export function table(name, columns, rows, caption = null) {
  const head = element("tr", {}, ...columns.map((column) => element("th", { scope: "col" }, column)));
  const body = rows.map(([row, cells]) =>
    element("tr", {}, element("th", { scope: "row" }, row), ...cells.map((cell) => element("td", {}, cell))));
  const grid = element("table", { class: "scores" },
    caption === null ? null : element("caption", {}, caption),
    element("thead", {}, head),
    element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, grid);
}

export function pairs(entries) {
  const rows = entries.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  return element("dl", { class: "pairs" }, ...rows);
}
