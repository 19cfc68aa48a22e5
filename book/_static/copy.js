// A button beside every command that stands in a line of text, and a link to every figure, both to be copied.
document.addEventListener("DOMContentLoaded", () => {
  const said = Object.assign(document.createElement("div"), { className: "visually-hidden" });
  said.setAttribute("role", "status"); // read out, since a button that changes its name is not
  document.body.append(said);

  const copy = (button, name, text) => async () => {
    try {
      await navigator.clipboard.writeText(text());
      said.textContent = button.textContent = "copied";
    } catch {
      said.textContent = button.textContent = "not copied"; // the browser does not allow it
    }
    setTimeout(() => [button.textContent, said.textContent] = [name, ""], 2000);
  };

  // blocks of code have a button of sphinx-copybutton's
  for (const code of document.querySelectorAll("article code:not(pre code)")) {
    const command = code.textContent;
    if (!/^(phenomena|make|papermill|git|env|python) \S/.test(command) || code.closest("a, h1, h2, h3, summary")) continue;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "copy" });
    button.textContent = "copy";
    button.setAttribute("aria-label", `copy ${command}`);
    button.addEventListener("click", copy(button, "copy", () => command));
    code.after(button);
  }

  // the figure's own address: opened by a click, and taken along
  for (const link of document.querySelectorAll("figcaption a.headerlink")) {
    const number = link.closest("figcaption").querySelector(".caption-number")?.textContent.trim() ?? "this figure";
    link.removeAttribute("title");
    link.textContent = "link";
    link.setAttribute("aria-label", `link to ${number}`);
    link.addEventListener("click", copy(link, "link", () => link.href));
  }
});
