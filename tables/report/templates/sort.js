// Tables sort by a click on a heading; without this script they are tables all the same.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent.trim();
  };
  const compare = (a, b, sign) => {
    const numbers = [typeof a === "number", typeof b === "number"];
    if (numbers[0] && numbers[1]) return sign * (a - b);
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1; // gaps stay at the end both ways
    return sign * a.localeCompare(b, "en", { numeric: true });
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    // No <button>: Chromium leaves its text out where a head is printed again on the next page.
    const button = document.createElement("span");
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); // of the page, which a space scrolls
      button.click();
    });
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const sign = up ? 1 : -1;
      body.append(
        ...[...body.rows].sort((a, b) => compare(key(a, column), key(b, column), sign)),
      );
    });
  });
}
// On paper nothing opens: what was found of the claims, notes and other readings are printed.
const closed = [];
addEventListener("beforeprint", () => {
  for (const more of document.querySelectorAll("details:is(.found, .more):not([open])")) {
    more.open = true;
    closed.push(more);
  }
});
addEventListener("afterprint", () => {
  for (const more of closed.splice(0)) more.open = false;
});
