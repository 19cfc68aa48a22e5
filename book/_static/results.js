// Filters the table of all claims. The choice stands in the page's address, so that it can be linked to; without this
// script the form stays hidden and every row shows.
{
  const form = document.querySelector("form.filter"), shown = document.querySelector(".shown");
  const rows = [...document.querySelectorAll("table.claims tbody tr")];
  const selects = [...form.querySelectorAll("select")];
  const asked = new URLSearchParams(location.search);
  for (const select of selects) {
    const value = asked.get(select.name);
    if ([...select.options].some((option) => option.value === value)) select.value = value;
  }

  const matches = (row, { name, value }) =>
    !value || (name === "n" ? Number(row.dataset.n) >= Number(value) : row.dataset[name] === value);
  const filter = () => {
    for (const row of rows) row.hidden = !selects.every((select) => matches(row, select));
    const left = rows.filter((row) => !row.hidden).length;
    shown.textContent = left === rows.length ? `All ${left} verdicts` : `${left} of ${rows.length} verdicts`;
  };
  const tell = () => {
    filter();
    const chosen = new URLSearchParams(selects.filter((select) => select.value).map((select) => [select.name, select.value]));
    const address = new URL(location.href);
    address.search = chosen;
    history.replaceState(null, "", address);
  };

  form.addEventListener("input", tell);
  form.addEventListener("reset", () => setTimeout(tell)); // once the choices are back
  form.hidden = false;
  filter();
}
