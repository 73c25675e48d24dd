// Sorts the table by the column whose header is pressed: numbers (they have a title) as numbers, dashes last.
"use strict";

function key(row, column) {
  const cell = row.cells[column];
  if (cell.className === "missing") return null;
  return cell.title ? parseFloat(cell.title) : cell.textContent;
}

function sort(header) {
  const table = header.closest("table");
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].sort((first, second) => {
    const [a, b] = [first, second].map((row) => key(row, header.cellIndex));
    if (a === null || b === null) return (a === null) - (b === null);
    return (typeof a === "number" ? a - b : a.localeCompare(b)) * (descending ? -1 : 1);
  });
  table.tBodies[0].append(...rows);
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
