// The model as the page's scripts see it. Everything in it is untrusted text: it reaches the page only as text nodes.

const MODEL = JSON.parse(document.getElementById("data").textContent);
const { ops: OPS, values: VALUES, views: VIEWS, strings: STRINGS, engines: ENGINES } = MODEL;
const INPUT = 0, CAPTURE = 1, OP = 2, OUTPUT = 3;

const byId = (id) => document.getElementById(id);

/** An element with properties, styles and children; strings among the children become text nodes. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "background" || name === "width" || name === "top") made.style[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** A type with its symbolic dims marked; quoted dim names may hold any character. */
function typeText(text) {
  const parts = [];
  let depth = 0;
  for (const token of text.match(/"(?:\\.|[^"\\])*"|[\[\]]|[^"\[\],]+|[,"]/g) || []) {
    if (token === "[") depth++;
    else if (token === "]") depth--;
    const symbolic = depth > 0 && token !== "[" && token !== "," && !/^-?\d+$/.test(token);
    parts.push(symbolic ? element("span", { class: "symbolic", title: "known when it runs" }, token) : token);
  }
  return element("code", {}, ...parts);
}

const nameOf = (value) => VALUES[value][0];
const typeOf = (value) => STRINGS[VALUES[value][1]];
const makerOf = (value) => VALUES[value][2];
const contentOf = (value) => (VALUES[value].length > 3 ? STRINGS[VALUES[value][3]] : "");
const isConstant = (op) => OPS[op].kind === "constant";
/** The variable of the style sheet that has an engine's colour. */
const ENGINE_COLORS = 6;
const engineColor = (engine) => `engine-${engine % ENGINE_COLORS}`;
const opName = (op) => STRINGS[OPS[op].name];
const originOf = (op) => (OPS[op].origins.length ? STRINGS[OPS[op].origins[0]] : "");

/** For each value the ops that use it and the graphs that return it, as {op} or {view, output}. */
const USERS = VALUES.map(() => []);
OPS.forEach((op, number) => {
  for (const value of new Set(op.operands || [])) if (value >= 0) USERS[value].push({ op: number });
});
VIEWS.forEach((view, number) => {
  view.outputs.forEach(([, , value], output) => USERS[value].push({ view: number, output }));
});

/** Of each view: its nodes by op, by value (inputs and captures), its nodes row by row, and the ends of each value's edges. */
const node = (packed) => {
  const [sort, subject, row, x, y, width, height, title, rows] = packed;
  return { sort, subject, row, x, y, width, height, title, rows };
};
for (const view of VIEWS) {
  view.nodes = view.nodes.map(node);
  view.ofOp = new Map();
  view.ofValue = new Map();
  view.byRow = view.rows.map(() => []);
  for (const each of view.nodes) {
    view.byRow[each.row].push(each);
    if (each.sort === OP) view.ofOp.set(each.subject, each);
    else if (each.sort !== OUTPUT) view.ofValue.set(each.subject, each);
  }
  for (const row of view.byRow) row.sort((a, b) => a.x - b.x);
}
const lineOps = new Map(OPS.map((op, number) => [op.line, number]));

/** The search text of an op, made when it is first asked for. */
const haystacks = new Array(OPS.length);
function haystack(op) {
  if (haystacks[op] === undefined) {
    const { origins, results, rewrites = [] } = OPS[op];
    const words = [opName(op), ...results.map(nameOf), ...[...origins, ...rewrites].map((n) => STRINGS[n])];
    haystacks[op] = words.join("\n").toLowerCase();
  }
  return haystacks[op];
}

/** What the page shows now. `selected` is null, {op}, {value} or {view, output}; parts of the page listen for changes. */
const state = { view: 0, selected: null, filter: null, found: [], current: -1, byEngine: ENGINES.length > 1 };
const listeners = [];
const changed = (what) => listeners.forEach((listener) => listener(what));

/** Whether an op passes the filter. */
function passes(op) {
  const { filter } = state;
  if (!filter) return true;
  if (filter.engine !== undefined) return OPS[op].engine === filter.engine;
  return filter.kind ? OPS[op].kind === filter.kind : OPS[op].name === filter.name;
}

/** Select something and show the graph it lies in; a constant is shown beside its first user. */
function select(selected, move = true) {
  state.selected = selected;
  if (selected) state.view = viewOf(selected);
  changed(move ? "jump" : "select");
}

function viewOf({ op, value, view }) {
  if (view !== undefined) return view;
  if (op !== undefined) return OPS[op].view;
  const maker = makerOf(value);
  return maker >= 0 ? OPS[maker].view : -1 - maker;
}

function enter(view) {
  state.view = view;
  state.selected = null;
  changed("enter");
}

/** The box to look at for what is selected: a constant has none of its own, so it is its first user's. */
function nodeOf(selected, view) {
  if (!selected) return null;
  if (selected.output !== undefined) {
    return view.nodes.find((n) => n.sort === OUTPUT && n.subject === selected.output) || null;
  }
  let { op, value } = selected;
  if (value !== undefined) {
    if (view.ofValue.has(value)) return view.ofValue.get(value);
    op = makerOf(value);
  }
  if (view.ofOp.has(op)) return view.ofOp.get(op);
  for (const result of op >= 0 ? OPS[op].results : []) {
    for (const user of USERS[result]) if (view.ofOp.has(user.op)) return view.ofOp.get(user.op);
  }
  return null;
}
