"use strict";

// Pictures become CSS variables, which reach into Bokeh's hover boxes without a second copy in the page.
for (const image of document.querySelectorAll("img[data-name]"))
  document.documentElement.style.setProperty(`--picture-${image.dataset.name}`, `url(${image.src})`);


async function drawCharts() {
  for (const data of document.querySelectorAll('script[type="application/json"]')) {
    const item = JSON.parse(data.textContent);
    await Bokeh.embed.embed_item(item, document.getElementById(data.dataset.chart));
  }
  document.body.dataset.drawn = "yes";
}

function sortTable(table, column, descending) {
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const isNumber = table.tHead.rows[0].cells[column].classList.contains("number");
  const compare = isNumber ? (a, b) => a - b : (a, b) => a.localeCompare(b);
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)));
  table.tBodies[0].append(...(descending ? rows.reverse() : rows));
}

for (const table of document.querySelectorAll("table.table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortTable(table, column, descending);
    }),
  );
}

drawCharts();
