// "Run it with your values": checks values as the command line does and makes the commands for them.
// The declaration stands in the page as data; nothing is asked of a kernel or of the network.

const runForm = {
  // --- the check of runs/contract/parameters.py --------------------------------------------------------------------

  /** What a text means for a type, as {value}; undefined where it is not accepted. */
  convert(type, text) {
    if (type.none && /^(none|null)$/i.test(text)) return { value: null };
    if (type.kind !== "list") return this.plain(type, text);
    const entries = this.entries(text);
    if (!entries || !this.within(type, entries)) return undefined;
    const values = entries.map((entry) => this.plain(type.of, entry));
    return values.every(Boolean) ? { value: values.map(({ value }) => value) } : undefined;
  },

  /** The entries of a list, in JSON or between commas; undefined for what is neither. */
  entries(text) {
    try {
      const listed = JSON.parse(text);
      if (Array.isArray(listed)) return listed;
    } catch {
      // not JSON
    }
    const entries = text.trim().replace(/^\[([^]*)\]$/, "$1").split(",").map((entry) => entry.trim());
    return entries.includes("") || /[[\](){}'"]/.test(entries.join("")) ? undefined : entries;
  },

  /** The same for what is no list: a text, or an entry of a list as JSON has it. */
  plain(type, given) {
    const value = this[type.kind](given, type);
    return value !== undefined && this.within(type, value) ? { value } : undefined;
  },

  within(type, value) {
    const size = Array.isArray(value) ? value.length : typeof value === "string" ? [...value].length : undefined;
    return !(value < type.min || value <= type.above || value > type.max || value >= type.below ||
             size < type.least || size > type.most);
  },

  int(given) {
    if (typeof given === "string" && /^\s*[+-]?\d+(\.\d*)?e\+?\d+\s*$/i.test(given)) given = Number(given);
    if (typeof given !== "string") return Number.isInteger(given) ? given : undefined;
    const bare = given.trim().replace(/^\+(?=\d)/, "").replace(/^0[0_]*(?=[\d-])/, "").replace(/\.0+$/, "");
    const digits = this.digits(bare);
    return /^-?\d+$/.test(digits) ? Number(digits) : undefined;
  },

  float(given) {
    const text = typeof given === "string" ? this.digits(given) : "0";
    const value = typeof given === "string" ? Number(text) : given;
    return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) && Number.isFinite(value) ? value : undefined;
  },

  /** A number's text without spaces around it and without the lines between its digits, unless they stand wrongly. */
  digits(text) {
    const bare = text.trim();
    return /^_|__|_$/.test(bare) ? "" : bare.replaceAll("_", "");
  },

  bool(given) {
    const words = { true: ["true", "1", "yes", "on", "t", "y"], false: ["false", "0", "no", "off", "f", "n"] };
    const word = typeof given === "object" ? "" : String(given).toLowerCase();
    return words.true.includes(word) ? true : words.false.includes(word) ? false : undefined;
  },

  str(given) {
    return typeof given === "string" ? given : undefined;
  },

  choice(given, { choices, own = [] }) {
    // one's own data, which only the command line can look at: npz:FILE, images:FOLDER
    if (typeof given === "string" && own.some((kind) => given.startsWith(`${kind}:`) && given !== `${kind}:`)) return given;
    const found = choices.find((choice) => choice === given || (typeof given === "string" && String(choice) === given));
    return found ?? choices.find((choice) => typeof given === "boolean" && choice === Number(given));
  },

  /** The faults of all texts, by name, in the order of the declaration: each in the command line's words. */
  faults(form, texts) {
    const wrong = form.parameters.filter(({ name, type }) => this.convert(type, texts[name]) === undefined);
    return new Map(wrong.map(({ name, type, accepted }) => {
      const choices = type.choices ?? type.of?.choices ?? [];
      const entries = type.kind === "list" ? this.entries(texts[name]) ?? [] : [];
      const at = entries.findIndex((entry) => !this.plain(type.of, entry));
      const entry = at < 0 ? "" : ` in entry ${at + 1}`;
      // a list of wrong length is at fault as a whole, and near to no choice
      const given = at >= 0 ? entries[at] : entries.length ? undefined : texts[name];
      const hint = typeof given === "string" ? this.nearest(given, choices.map(String)) : "";
      return [name, `${name}=${this.short(this.quoted(texts[name]))} is not accepted${entry}: ${accepted}${hint}`];
    }));
  },

  /** The line with which the command line refuses the texts; nothing where it accepts them. */
  refusal(form, texts) {
    const faults = this.faults(form, texts);
    if (!faults.size) return this.broken(form, texts);
    const more = faults.size > 1 ? ` (and ${faults.size - 1} more)` : "";
    return `${form.chapter}: ${faults.values().next().value}${more}`;
  },

  /** The line for the first rule between parameters that accepted texts break; nothing where they keep all. */
  broken(form, texts) {
    const values = Object.fromEntries(form.parameters.map(({ name, type }) => [name, this.convert(type, texts[name]).value]));
    const rule = form.rules.find(({ test }) => !Function("v", "f", `return ${test}`)(values, this.functions));
    if (!rule) return "";
    const named = form.parameters.filter(({ name }) => rule.names.includes(name));
    const given = named.map(({ name, type }) => `${name}=${this.shown(type, values[name])}`);
    const said = given.length === 1 ? "is not accepted" : "do not go together";
    return `${form.chapter}: ${given.join(", ")} ${said}: must satisfy ${rule.rule} (${rule.why})`;
  },

  /** What a rule may call. */
  functions: {
    min: (...given) => Math.min(...given.flat()),
    max: (...given) => Math.max(...given.flat()),
    sum: (list) => list.reduce((a, b) => a + b, 0),
    abs: Math.abs,
    len: (list) => list.size ?? list.length,
    set: (list) => new Set(list),
  },

  /** A value as Python shows it. */
  shown(type, value) {
    if (Array.isArray(value)) return `[${value.map((entry) => this.shown(type.of, entry)).join(", ")}]`;
    if (typeof value === "string") return this.quoted(value);
    if (typeof value !== "number") return { null: "None", true: "True", false: "False" }[value];
    const text = String(value).replace(/e([+-])(\d)$/, "e$10$2"); // 1e-07, not 1e-7
    return type.kind === "float" && /^-?\d+$/.test(text) ? `${text}.0` : text;
  },

  /** A text as Python shows it. */
  quoted(text) {
    const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
    const known = { "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", [quote]: `\\${quote}` };
    const shown = (sign) => {
      const code = sign.codePointAt(0);
      const [letter, size] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
      return known[sign] ?? `\\${letter}${code.toString(16).padStart(size, "0")}`;
    };
    const hidden = quote === "'" ? /['\\]|(?! )[\p{C}\p{Z}]/gu : /\\|(?! )[\p{C}\p{Z}]/gu;
    return quote + text.replace(hidden, shown) + quote;
  },

  /** A text of at most 100 characters. */
  short(text) {
    const signs = [...text];
    return signs.length <= 100 ? text : `${signs.slice(0, 99).join("")}…`;
  },

  /** The nearest of some words, as Python's difflib finds it. */
  nearest(given, words) {
    const scored = words.map((word) => [2 * this.common(word, given) / (word.length + given.length || 1), word]);
    const [best] = scored.filter(([score]) => score >= 0.6).sort(([a, v], [b, w]) => b - a || (v < w ? 1 : -1));
    return best ? `; did you mean ${this.quoted(best[1])}?` : "";
  },

  /** How many letters two texts have in common: in the longest block, then left and right of it. */
  common(a, b) {
    let [size, i, j] = [0, 0, 0];
    for (let m = 0; m < a.length; m++) {
      for (let n = 0; n < b.length; n++) {
        let k = 0;
        while (m + k < a.length && n + k < b.length && a[m + k] === b[n + k]) k++;
        if (k > size) [size, i, j] = [k, m, n];
      }
    }
    if (!size) return 0;
    return size + this.common(a.slice(0, i), b.slice(0, j)) + this.common(a.slice(i + size), b.slice(j + size));
  },

  // --- commands ------------------------------------------------------------------------------------------------------

  /** What every field holds in an edition. */
  ofEdition(form, edition) {
    const { values } = form.editions[edition];
    return Object.fromEntries(form.parameters.map(({ name, default: text }) => [name, values[name] ?? text]));
  },

  /** The parameters whose value is not that of other texts, however either is written. */
  changed(form, texts, from) {
    const value = ({ type }, text) => JSON.stringify(this.convert(type, text)?.value);
    return form.parameters.filter((p) => texts[p.name] !== from[p.name] &&
                                         value(p, texts[p.name]) !== value(p, from[p.name]));
  },

  command(form, edition, texts) {
    const words = ["phenomena", "run", form.chapter, ...(edition === "default" ? [] : ["--edition", edition])];
    for (const p of this.changed(form, texts, this.ofEdition(form, edition))) {
      words.push("-p", `${p.name}=${this.typed(p, texts[p.name])}`);
    }
    return words.map(this.shell).join(" ");
  },

  /** Papermill knows no editions, and guesses types: -r keeps a text, -y gives a list, -p the rest. */
  papermill(form, texts) {
    const words = ["papermill", `notebooks/${form.chapter}.ipynb`, "out.ipynb"];
    const defaults = Object.fromEntries(form.parameters.map(({ name, default: text }) => [name, text]));
    for (const p of this.changed(form, texts, defaults)) {
      const { value } = this.convert(p.type, texts[p.name]);
      if (Array.isArray(value)) words.push("-y", `${p.name}: ${this.yaml(texts[p.name].trim())}`);
      else if (typeof value === "string") words.push("-r", p.name, value);
      else if (typeof value === "number") words.push("-p", p.name, this.typed(p, texts[p.name]));
      else words.push("-p", p.name, { null: "None", true: "True", false: "False" }[value]);
    }
    return words.map(this.shell).join(" ");
  },

  typed({ type }, text) {
    return type.kind === "str" ? text : text.trim();
  },

  /** A list in JSON as YAML reads it, which takes 1e-7 for a text. */
  yaml(text) {
    const words = /("(?:[^"\\]|\\.)*")|(-?\d+)(\.\d+)?e([+-]?)(\d+)/gi;
    return text.replace(words, (_, word, whole, part, sign, power) =>
      word ?? `${whole}${part ?? ".0"}e${sign || "+"}${power}`);
  },

  /** A word as a shell takes it whole. */
  shell(word) {
    return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
  },

  // --- the state in the address: ?run=EDITION&run.NAME=VALUE -----------------------------------------------------------

  readAddress(form, search) {
    const query = new URLSearchParams(search);
    const named = query.get("run") ?? form.edition;
    const edition = named in form.editions ? named : form.edition;
    const texts = this.ofEdition(form, edition);
    for (const { name } of form.parameters) texts[name] = query.get(`run.${name}`) ?? texts[name];
    return { edition, texts };
  },

  writeAddress(form, edition, texts) {
    const address = new URL(location);
    for (const key of [...address.searchParams.keys()]) if (/^run(\.|$)/.test(key)) address.searchParams.delete(key);
    if (edition !== form.edition) address.searchParams.set("run", edition);
    for (const { name } of this.changed(form, texts, this.ofEdition(form, edition))) {
      address.searchParams.set(`run.${name}`, texts[name]);
    }
    if (location.protocol !== "file:") history.replaceState(history.state, "", address); // a file has one address
  },
};

if (typeof document !== "undefined") {
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  for (const source of document.querySelectorAll("script.run-form")) {
    const form = JSON.parse(source.textContent);
    const at = (name) => `run-${name}`;
    const out = (part) => source.parentNode.querySelector(`.run-${part} pre`);
    const start = runForm.readAddress(form, location.search);
    const from = runForm.ofEdition(form, start.edition);

    // fields
    const controls = {};
    const field = ({ name, meaning, accepted, type, see }) => {
      const options = type.kind === "choice" && !type.own ? [...type.choices.map(String), ...(type.none ? ["none"] : [])]
        : type.kind === "bool" && !type.none ? ["true", "false"] : null;
      const control = options ? make("select", {}, ...options.map((text) => new Option(text)))
        : make("input", { type: "text", autocomplete: "off", spellcheck: false });
      Object.assign(control, { id: at(name), name });
      if (type.own) control.setAttribute("list", `${at(name)}-known`);
      control.setAttribute("aria-describedby", `${at(name)}-about ${at(name)}-fault`);
      controls[name] = control;
      const about = make("p", { id: `${at(name)}-about`, className: "about" }, `${meaning} (${accepted})`);
      if (see) about.append(make("br"), make("b", {}, "You should then see: "), see);
      const known = type.own ? [make("datalist", { id: `${at(name)}-known` }, ...type.choices.map((text) => new Option(text)))]
        : [];
      return make("div", { className: "field" }, make("label", { htmlFor: at(name) }, name), control, ...known, about,
                  make("p", { id: `${at(name)}-fault`, className: "fault" }));
    };
    const first = form.first.map((name) => field(form.parameters.find((p) => p.name === name)));
    const others = form.parameters.filter(({ name }) => !form.first.includes(name)).map(field);

    // editions
    const names = Object.keys(form.editions);
    const editions = make("select", { id: "run-edition" }, ...names.map((name) => new Option(name)));
    editions.setAttribute("aria-describedby", "run-edition-about");
    const about = make("p", { id: "run-edition-about", className: "about" });
    const reset = make("button", { type: "button" }, "Back to the edition's values");
    const status = make("p", { className: "status" });
    status.setAttribute("role", "status");
    const see = make("div", { className: "see" });

    const set = (texts) => {
      for (const [name, text] of Object.entries(texts)) {
        const control = controls[name];
        if (control.options && ![...control.options].some(({ value }) => value === text)) control.add(new Option(text));
        control.value = text;
      }
    };
    const update = () => {
      const edition = editions.value;
      const texts = Object.fromEntries(Object.entries(controls).map(([name, { value }]) => [name, value]));
      const faults = runForm.faults(form, texts);
      for (const [name, control] of Object.entries(controls)) {
        document.getElementById(`${at(name)}-fault`).textContent = faults.get(name) ?? "";
        if (faults.has(name)) control.setAttribute("aria-invalid", "true");
        else control.removeAttribute("aria-invalid");
      }
      const { summary, time } = form.editions[edition];
      const refusal = runForm.refusal(form, texts);
      const changed = runForm.changed(form, texts, runForm.ofEdition(form, edition));
      about.textContent = `${summary}. ${time}`;
      for (const [name, control] of Object.entries(controls)) {
        control.parentNode.classList.toggle("changed", changed.some((p) => p.name === name));
      }
      out("command").textContent = refusal ? `# ${refusal}` : runForm.command(form, edition, texts);
      out("papermill").textContent = refusal ? `# ${refusal}` : runForm.papermill(form, texts);
      const many = changed.length === 1 ? "1 value differs" : `${changed.length} values differ`;
      status.textContent = refusal || `${changed.length ? many : "No value differs"} from the edition ${edition}.`;
      status.classList.toggle("fault", Boolean(refusal));
      const seen = changed.filter((p) => p.see).map((p) => make("li", {}, make("code", {}, p.name), `: ${p.see}`));
      const same = edition === form.edition ? "You should see the values of this page." : "";
      const what = !changed.length ? same
        : "That is the time of the edition's own values; more seeds, samples or steps take longer.";
      see.replaceChildren(make("p", {}, `${time} ${what}`), ...(seen.length ? [make("ul", {}, ...seen)] : []));
      see.hidden = Boolean(refusal);
      runForm.writeAddress(form, edition, texts);
    };
    const refill = () => {
      set(runForm.ofEdition(form, editions.value));
      update();
    };
    editions.addEventListener("change", refill);
    reset.addEventListener("click", refill);

    const body = make("form", { className: "run-form" },
      make("div", { className: "field" }, make("label", { htmlFor: "run-edition" }, "Edition"), editions, about),
      ...first,
      make("details", { open: runForm.changed(form, start.texts, from).some(({ see }) => !see) },
           make("summary", {}, `${first.length ? "The other" : "All"} ${others.length} parameters`), ...others),
      reset, status);
    body.addEventListener("input", (event) => { if (event.target !== editions) update(); });
    body.addEventListener("submit", (event) => event.preventDefault());
    source.after(body);
    const fold = body.closest("details");
    if (fold && /[?&]run[.=]/.test(location.search)) fold.open = true; // who follows a link to values sees them
    source.parentNode.querySelector(".run-plain")?.remove();
    const told = source.parentNode.querySelector(".run-command > p:last-child");
    told.replaceWith(see);
    editions.value = start.edition;
    set(start.texts);
    update();
  }
}
