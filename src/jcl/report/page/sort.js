// Tables that sort by the column whose head is clicked: best first, then worst first, then as they came.
(() => {
  "use strict";

  const opposite = { ascending: "descending", descending: "ascending" };

  // a number where the cell has one, else its text; an empty value is last in either order
  const valueOf = (row, column) => {
    const { value } = row.cells[column].dataset;
    if (value === undefined) return row.cells[column].textContent.trim();
    return value === "" ? null : Number(value);
  };

  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));

  const sort = (body, column, order, rows) => {
    const sign = order === "descending" ? -1 : 1;
    const sorted = order === "none" ? rows : [...rows].sort((one, other) => {
      const [a, b] = [valueOf(one, column), valueOf(other, column)];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * compare(a, b);
    });
    body.append(...sorted);
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      const label = head.querySelector(".sorts");
      button.append(...label.childNodes);
      label.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const first = head.dataset.first;
        const was = head.getAttribute("aria-sort");
        const order = was === "none" ? first : was === first ? opposite[first] : "none";
        for (const each of heads) each.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", order);
        sort(body, head.cellIndex, order, rows);
      });
    }
  }
})();
