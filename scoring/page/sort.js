// Sorts the table of the tab Folder by the column whose title is clicked, the other way round at the second click.
element.addEventListener("click", (event) => {
  const button = event.target.closest("th button");
  if (!button) return;
  const title = button.parentElement;
  const column = [...title.parentElement.children].indexOf(title);
  const down = title.getAttribute("aria-sort") ? title.getAttribute("aria-sort") === "ascending" : title.className === "number";
  const body = title.closest("table").tBodies[0];
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => value(a) === undefined
    ? a.cells[column].textContent.localeCompare(b.cells[column].textContent, undefined, { numeric: true })
    : value(a) - value(b);
  for (const other of title.parentElement.children) other.removeAttribute("aria-sort");
  title.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.rows].sort((a, b) => (down ? -compare(a, b) : compare(a, b))));
});
