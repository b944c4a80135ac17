// The model on the left, what is selected on the right.

const link = (text, onclick, title = "") => element("button", { class: "link mono", type: "button", onclick, title }, text);
const swatch = (kind) => element("span", { class: "swatch", background: `var(--${kind})` });
const heading = (text) => element("h2", {}, text);
const definition = (name, ...content) => [element("dt", {}, name), element("dd", {}, ...content)];
const KINDS = new Map(MODEL.kinds);
const counted = (count) => (count === 1 ? "1 op" : `${count.toLocaleString("en")} ops`);
const MOST_LINKS = 200;

function valueLink(value) {
  return link(nameOf(value), () => select({ value }));
}

function opLink(op) {
  const origin = originOf(op);
  return element("span", {}, link(opName(op), () => select({ op })), element("span", { class: "dim" }, origin ? " at " + origin : ""));
}

function valueRow(value, label, type = typeOf(value)) {
  const row = element("div", { class: "value" });
  if (label) row.append(element("span", { class: "dim" }, label + " "));
  row.append(valueLink(value), " ", typeText(type));
  if (contentOf(value)) row.append(element("div", { class: "dim" }, "holds ", element("code", {}, contentOf(value))));
  return row;
}

function longList(items, make) {
  const list = element("ul", {}, ...items.slice(0, MOST_LINKS).map((item) => element("li", {}, make(item))));
  if (items.length > MOST_LINKS) {
    const rest = () => list.lastChild.replaceWith(...items.slice(MOST_LINKS).map((item) => element("li", {}, make(item))));
    list.append(element("li", {}, element("button", { class: "link", type: "button", onclick: rest }, `${items.length - MOST_LINKS} more`)));
  }
  return list;
}

// The model

function setFilter(filter) {
  state.filter = filter && JSON.stringify(filter) === JSON.stringify(state.filter) ? null : filter;
  changed("filter");
}

function bar(name, count, kind, most) {
  const filled = element("i", { background: `var(--${kind})`, width: `${(100 * count) / most}%` });
  const onclick = () => setFilter({ name });
  const made = element("button", { class: "bar", type: "button", onclick, title: STRINGS[name] }, filled);
  made.append(element("b", {}, STRINGS[name]), element("span", {}, String(count)));
  made.pressed = () => state.filter !== null && state.filter.name === name;
  return made;
}

function legendEntry(key, label, count) {
  const filter = state.byEngine ? { engine: key } : { kind: key };
  const colour = swatch(state.byEngine ? engineColor(key) : key);
  const made = element("button", { type: "button", onclick: () => setFilter(filter), title: counted(count) }, colour, label);
  made.pressed = () => JSON.stringify(state.filter) === JSON.stringify(filter);
  return made;
}

const pressables = [];
const legend = element("div", { id: "legend" });

function fillModel() {
  const panel = byId("model");
  const facts = element("dl", {}, ...MODEL.facts.flatMap(([name, text]) => definition(name, text)));
  panel.append(heading("Facts"), facts, ...MODEL.tables.flatMap(tableParts));
  const [main] = VIEWS;
  const overridable = new Set(main.overridable);
  panel.append(heading(`Inputs (${main.inputs.length})`));
  panel.append(longList(main.inputs, (v) => valueRow(v, overridable.has(v) ? "overridable" : "")));
  panel.append(heading(`Outputs (${main.outputs.length})`));
  panel.append(longList(main.outputs.map((_, i) => i), (output) => {
    const [name, type] = main.outputs[output];
    return element("div", { class: "value" }, link("%" + name, () => select({ view: 0, output })), " ", typeText(STRINGS[type]));
  }));
  panel.append(heading("Colours"), legend);
  const most = MODEL.histogram.length ? MODEL.histogram[0][1] : 1;
  const bars = MODEL.histogram.map(([name, count, kind]) => bar(name, count, kind, most));
  panel.append(heading(`Ops by type (${bars.length})`), ...bars);
  pressables.push(...bars);
  showLegend();
}

/** What the colours mean: sorts of work, or engines; where ops are placed, a button tells one from the other. */
function showLegend() {
  const counts = new Map();
  for (const { kind, engine } of OPS) {
    const key = state.byEngine ? engine : kind;
    if (kind !== "constant" && key !== undefined) counts.set(key, (counts.get(key) || 0) + 1);
  }
  const meanings = state.byEngine ? ENGINES.map((name, engine) => [engine, name]) : MODEL.kinds;
  const present = meanings.filter(([key]) => counts.has(key));
  const entries = present.map(([key, label]) => legendEntry(key, label, counts.get(key)));
  const ends = [["input", "Input"], ["output", "Output"]];
  if (VIEWS.some((view) => view.captures.length)) ends.push(["capture", "Captured by a body"]);
  const others = ends.map(([kind, label]) => element("span", {}, swatch(kind), label));
  const turn = element("button", { type: "button", onclick: turnColours }, state.byEngine ? "by engine ⇄ by sort of work" : "by sort of work ⇄ by engine");
  legend.replaceChildren(...entries, ...others, ...(ENGINES.length ? [turn] : []));
  pressables.splice(0, pressables.length, ...pressables.filter((each) => each.isConnected), ...entries);
  showPressed();
}

function turnColours() {
  state.byEngine = !state.byEngine;
  state.filter = null;
  showLegend();
  changed("filter");
}

/** A table of texts under a heading. */
function tableParts([title, columns, rows]) {
  const cells = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, {}, text)));
  const table = element("table", {}, element("thead", {}, cells("th", columns)), element("tbody", {}, ...rows.map((row) => cells("td", row))));
  return [heading(title), element("div", { class: "table", tabindex: "0", role: "region", "aria-label": title }, table)];
}

function showPressed() {
  for (const each of pressables) each.setAttribute("aria-pressed", String(each.pressed()));
}

// What is selected

function head(kind, text) {
  const close = element("button", { type: "button", "aria-label": "Close", title: "Close (Esc)", onclick: () => select(null, false) }, "×");
  return element("div", { class: "head" }, swatch(kind), element("h3", {}, text), close);
}

function locationParts(op) {
  const { origins, rewrites = [], unlisted = 0, line } = OPS[op];
  const parts = [heading("Location"), longList(origins, (n) => element("code", {}, STRINGS[n]))];
  if (unlisted) parts.push(element("div", { class: "dim" }, `and ${unlisted} more`));
  if (rewrites.length) {
    parts.push(element("div", { class: "dim" }, "came through"), longList(rewrites, (n) => element("code", {}, STRINGS[n])));
  }
  const where = element("button", { class: "link", type: "button", onclick: () => showLine(line) }, `line ${line + 1}`);
  return [...parts, element("div", {}, element("span", { class: "dim" }, "in the text: "), where)];
}

function constantParts(op) {
  const { bytes, data, figures = [] } = OPS[op];
  const facts = [["bytes", bytes], ...figures].flatMap(([name, text]) => definition(name, text));
  return [element("dl", {}, ...facts), element("pre", {}, data)];
}

function constantRow(op) {
  const { bytes, data } = OPS[op];
  const short = data.length <= 60 ? element("code", {}, data) : bytes;
  const from = element("div", {}, element("span", { class: "dim" }, "from "), opLink(op));
  return element("details", {}, element("summary", { class: "dim" }, "constant ", short), ...constantParts(op), from);
}

function operandRows(op) {
  return OPS[op].operands.map((value, index) => {
    const label = STRINGS[OPS[op].operandNames[index]];
    if (value < 0) return element("div", { class: "value dim" }, `${label} is absent`);
    const row = valueRow(value, label);
    const maker = makerOf(value);
    if (maker < 0) row.append(element("div", { class: "dim" }, "an input"));
    else if (isConstant(maker)) row.append(constantRow(maker));
    else row.append(element("div", {}, element("span", { class: "dim" }, "from "), opLink(maker)));
    return row;
  });
}

function userParts(value) {
  return longList(USERS[value], (user) => {
    if (user.op !== undefined) return opLink(user.op);
    const { outputs, owner } = VIEWS[user.view];
    return element("span", {}, link("%" + outputs[user.output][0], () => select(user)), element("span", { class: "dim" }, owner < 0 ? " an output" : " a body's output"));
  });
}

function resultParts(value, label) {
  const row = valueRow(value, label);
  row.append(USERS[value].length ? element("div", { class: "dim" }, "used by") : element("div", { class: "dim" }, "used by nobody"));
  row.append(userParts(value));
  return row;
}

function opParts(op) {
  const { kind, bodies = [], operands = [], results, resultNames = [], attributes = [] } = OPS[op];
  const parts = [head(kind, opName(op))];
  if (isConstant(op)) return [...parts, resultParts(results[0], ""), ...constantParts(op), ...locationParts(op)];
  parts.push(element("div", { class: "dim" }, KINDS.get(kind)));
  const { engine, piece } = OPS[op];
  if (engine !== undefined) {
    const where = STRINGS[piece] ? `, piece ${STRINGS[piece]}` : "";
    parts.push(element("div", {}, element("span", { class: "dim" }, "runs on "), swatch(engineColor(engine)), " " + ENGINES[engine] + where));
  }
  if (bodies.length) parts.push(heading("Bodies"));
  for (const [name, view] of bodies) {
    parts.push(element("div", { class: "value" }, link(name, () => enter(view)), element("span", { class: "dim" }, ` @${VIEWS[view].name}, ${counted(VIEWS[view].ofOp.size)}`)));
  }
  parts.push(...locationParts(op));
  if (operands.length) parts.push(heading("Operands"), ...operandRows(op));
  parts.push(heading("Results"), ...results.map((value, index) => resultParts(value, STRINGS[resultNames[index]])));
  if (attributes.length) {
    const entries = attributes.flatMap(([name, text]) => definition(name, element("pre", {}, text)));
    parts.push(heading("Attributes"), element("dl", {}, ...entries));
  }
  return parts;
}

function valueParts(value) {
  const maker = makerOf(value);
  if (maker >= 0) return opParts(maker);
  const owner = VIEWS[-1 - maker].owner;
  const of = owner < 0 ? "Input of the model" : "Input of a body";
  return [head("input", nameOf(value)), element("div", { class: "dim" }, of), resultParts(value, "")];
}

function outputParts({ view, output }) {
  const [name, type, value] = VIEWS[view].outputs[output];
  const of = VIEWS[view].owner < 0 ? "Output of the model" : "Output of a body";
  const declared = element("div", { class: "value" }, element("span", { class: "dim" }, "declared "), typeText(STRINGS[type]));
  const parts = [head("output", "%" + name), element("div", { class: "dim" }, of), declared, heading("Value"), valueRow(value, "")];
  return makerOf(value) < 0 ? parts : [...parts, element("div", {}, element("span", { class: "dim" }, "from "), opLink(makerOf(value)))];
}

function showDetails() {
  const panel = byId("details");
  const { selected } = state;
  const before = panel.hidden;
  panel.hidden = !selected;
  panel.replaceChildren();
  if (selected) {
    const { op, value, output } = selected;
    panel.append(...(output !== undefined ? outputParts(selected) : value !== undefined ? valueParts(value) : opParts(op)));
    panel.scrollTop = 0;
  }
  if (before !== panel.hidden) resize();
}

/** The way from the model to the body shown, and the filter. */
function showPath() {
  const path = byId("path");
  const steps = [];
  for (let number = state.view; ; number = OPS[VIEWS[number].owner].view) {
    const { owner, attribute, name } = VIEWS[number];
    const text = owner < 0 ? name || "main" : `${opName(owner)} ${originOf(owner)} · ${attribute}`;
    const here = number;
    const step = element("button", { type: "button", title: text, onclick: () => enter(here) }, text);
    if (number === state.view) step.setAttribute("aria-current", "location");
    steps.unshift(...(owner < 0 ? [] : [element("span", { class: "sep" }, "›")]), step);
    if (owner < 0) break;
  }
  path.replaceChildren(...(VIEWS.length > 1 ? steps : []));
  const { filter } = state;
  if (!filter) return;
  const count = OPS.filter((op, number) => op.kind !== "constant" && passes(number)).length;
  const name = filter.engine !== undefined ? ENGINES[filter.engine] : filter.kind ? KINDS.get(filter.kind) : STRINGS[filter.name];
  const text = `${name}: ${count}`;
  path.append(element("button", { type: "button", class: "filter", title: "next one (N)", onclick: () => nextFiltered(1) }, text + " ▸"));
  path.append(element("button", { type: "button", class: "filter", "aria-label": "Clear the filter", onclick: () => setFilter(null) }, "×"));
}
