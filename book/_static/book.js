// What the theme leaves undone.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false; // no page may read another from disk

document.addEventListener("DOMContentLoaded", () => {
  // the sidebar is a landmark, so that a reader of the page by ear can skip it or go to it
  const sidebar = document.querySelector(".bd-sidebar-primary");
  sidebar?.setAttribute("role", "region");
  sidebar?.setAttribute("aria-label", "Book");

  // what is wider than the page can be scrolled by keyboard, from the moment at which it is (opened, typeset, turned)
  const wide = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of document.querySelectorAll(".pst-scrollable-table-container, div.math")) wide.observe(box);

  // one switch for all code of a page, remembered for the next page
  const folds = document.querySelectorAll("article div.cell details.hide");
  if (folds.length) {
    const button = Object.assign(document.createElement("button"), { className: "btn btn-sm code-switch", type: "button", textContent: "Show all code" });
    const turn = (on) => {
      button.ariaPressed = String(on);
      document.documentElement.classList.toggle("all-code", on);
      for (const fold of folds) fold.open = on;
    };
    button.addEventListener("click", () => {
      const on = button.ariaPressed !== "true";
      turn(on);
      remember(on);
    });
    document.querySelector(".article-header-buttons")?.prepend(button);
    turn(remembered());
  }
});

// a browser may refuse to keep anything
const CODE = "phenomena-all-code";
function remember(on) {
  try { localStorage.setItem(CODE, on ? "1" : ""); } catch {}
}
function remembered() {
  try { return localStorage.getItem(CODE) === "1"; } catch { return false; }
}

// what is folded is open on paper
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("article details")) folded.open = true;
});
