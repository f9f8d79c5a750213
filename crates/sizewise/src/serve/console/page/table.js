// How is a table set, so that it scrolls by itself, has a name, and can be read by row?
import { h } from "./dom.js";

/**
 * A table. `columns`: { name, cell(row), number?, words?, tight?, head? }; the first with `head` names the row.
 */
export function table(caption, columns, rows, empty) {
  if (rows.length === 0) return h("p", { class: "note" }, empty ?? "Nothing yet.");
  const kind = (column) => [column.number && "number", column.words && "words", column.tight && "tight"].filter(Boolean).join(" ") || null;
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null }, column.name)));
  const line = (row) => h("tr", {}, columns.map((column) => column.head
    ? h("th", { scope: "row", class: kind(column) }, column.cell(row))
    : h("td", { class: kind(column) }, column.cell(row))));
  const whole = h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, rows.map(line)));
  return h("div", { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, whole);
}

/** The same, folded away behind a chart. */
export function behind(caption, columns, rows) {
  return h("details", {}, h("summary", {}, "The numbers as a table"), table(caption, columns, rows));
}
