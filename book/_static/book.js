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
});

// what is folded is open on paper
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("article details")) folded.open = true;
});
