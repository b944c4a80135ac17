// Ties the parts together: mouse, touch, keyboard, search, tabs, and what the address names.

const graphShown = () => !byId("graph").hidden;

function showTab(name) {
  for (const tab of ["graph", "text"]) {
    byId(tab).hidden = tab !== name;
    byId("tab-" + tab).setAttribute("aria-selected", String(tab === name));
  }
  if (name === "graph") resize();
  else drawLines(true);
}

// Mouse and touch

const pointers = new Map();
let travelled = 0, pinch = 0;

function place(event) {
  const box = canvas.getBoundingClientRect();
  const px = event.clientX - box.left, py = event.clientY - box.top;
  return { px, py, x: camera.x + px / camera.scale, y: camera.y + py / camera.scale };
}

function nodeUnder(x, y) {
  let found = null;
  nodesIn(x, y, x, y, (n) => {
    if (y >= n.y && y <= n.y + n.height) found = n;
  });
  return found;
}

/** The value whose edge passes near a point. */
function valueUnder(x, y) {
  const near = 6 / camera.scale;
  let best = near, found = -1;
  const consider = (value, distance) => {
    if (distance < best) [best, found] = [distance, value];
  };
  piecesIn(-Infinity, y - near, Infinity, y + near, (value, x0, start, top, bottom, x1) => {
    if (y < start || y > bottom) return;
    if (y <= top) return consider(value, Math.abs(x - x0));
    // The curve leaves and arrives upright, with both handles half way down: y grows with t, so t is found by halving.
    let low = 0, high = 1;
    for (let i = 0; i < 12; i++) {
      const t = (low + high) / 2;
      const height = 1.5 * t * (1 - t) + t * t * t;
      if (top + (bottom - top) * height < y) low = t;
      else high = t;
    }
    consider(value, Math.abs(x - (x0 + (x1 - x0) * low * low * (3 - 2 * low))));
  });
  return found;
}

function showTip(px, py, lines) {
  tip.hidden = !lines;
  if (!lines) return;
  tip.replaceChildren(...lines.map((line) => element("div", {}, line)));
  const left = Math.min(px + 14, shown.width - tip.offsetWidth - 6);
  tip.style.left = Math.max(left, 4) + "px";
  tip.style.top = (py + 18 + tip.offsetHeight > shown.height ? py - tip.offsetHeight - 10 : py + 18) + "px";
}

function tipOf(n) {
  if (n.sort === OP) return [STRINGS[OPS[n.subject].name], originOf(n.subject)];
  const value = n.sort === OUTPUT ? view().outputs[n.subject][2] : n.subject;
  return [`${["input", "captured", "", "output"][n.sort]} ${n.title}`, typeText(typeOf(value))];
}

function hover(event) {
  const { px, py, x, y } = place(event);
  const over = nodeUnder(x, y);
  const value = over ? -1 : valueUnder(x, y);
  canvas.classList.toggle("over", Boolean(over) || value >= 0);
  if (over !== shown.over || value !== shown.overValue) {
    Object.assign(shown, { over, overValue: value });
    redraw();
  }
  const edge = value >= 0 ? [element("span", {}, nameOf(value) + " : ", typeText(typeOf(value)))] : null;
  if (edge && contentOf(value)) edge.push("holds " + contentOf(value));
  showTip(px, py, over ? tipOf(over) : edge);
}

function click(event, twice) {
  const { x, y } = place(event);
  const n = nodeUnder(x, y);
  if (!n) {
    const value = valueUnder(x, y);
    return select(value >= 0 ? { value } : null, false);
  }
  if (n.sort === OUTPUT) return select({ view: state.view, output: n.subject }, false);
  if (n.sort !== OP) {
    if (n.sort === CAPTURE && twice) return select({ value: n.subject });
    state.selected = { value: n.subject };
    return changed("select");
  }
  const { bodies = [] } = OPS[n.subject];
  const row = Math.floor((y - n.y - TITLE) / ROW);
  if (bodies.length && (twice || (row >= 0 && row < bodies.length))) return enter(bodies[Math.max(0, Math.min(row, bodies.length - 1))][1]);
  select({ op: n.subject }, false);
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event);
  if (pointers.size === 1) travelled = 0;
  pinch = 0;
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return event.pointerType === "mouse" && hover(event);
  const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
  travelled += Math.abs(dx) + Math.abs(dy);
  pointers.set(event.pointerId, event);
  if (travelled > 4) canvas.classList.add("moving");
  pan(-dx / pointers.size, -dy / pointers.size);
  if (pointers.size !== 2) return;
  const [a, b] = [...pointers.values()].map(place);
  const apart = Math.hypot(a.px - b.px, a.py - b.py);
  if (pinch) zoom(apart / pinch, (a.px + b.px) / 2, (a.py + b.py) / 2);
  pinch = apart;
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    const alone = pointers.delete(event.pointerId) && !pointers.size;
    canvas.classList.remove("moving");
    pinch = 0;
    if (name === "pointerup" && alone && travelled <= 4) click(event, false);
  });
}
canvas.addEventListener("dblclick", (event) => click(event, true));
canvas.addEventListener("pointerleave", () => {
  Object.assign(shown, { over: null, overValue: -1 });
  showTip(0, 0, null);
  redraw();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? shown.height : 1;
  if (event.shiftKey) return pan((event.deltaX || event.deltaY) * unit, 0);
  const { px, py } = place(event);
  zoom(Math.exp(-Math.max(-200, Math.min(200, event.deltaY * unit)) * (event.ctrlKey ? 0.01 : 0.0018)), px, py);
}, { passive: false });

function dragMap(event) {
  if (!event.buttons) return;
  const box = map.getBoundingClientRect();
  centerOn(((event.clientX - box.left) / box.width) * view().width, ((event.clientY - box.top) / box.height) * view().height);
}
map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); dragMap(event); });
map.addEventListener("pointermove", dragMap);

// Search and filter

function search(step) {
  const query = byId("query").value.trim().toLowerCase();
  if (!step) {
    const found = query ? OPS.map((_, op) => op).filter((op) => haystack(op).includes(query)) : [];
    state.found = [...found.filter((op) => !isConstant(op)), ...found.filter(isConstant)];
    state.current = -1;
  }
  const count = state.found.length;
  if (step && count) {
    state.current = state.current < 0 ? (step > 0 ? 0 : count - 1) : (state.current + step + count) % count;
    showTab("graph");
    select({ op: state.found[state.current] });
  } else redraw();
  byId("found").textContent = !query ? "" : count ? `${state.current < 0 ? "" : state.current + 1 + " of "}${count}` : "none";
}

function nextFiltered(step) {
  if (!state.filter) return;
  const start = state.selected && state.selected.op !== undefined ? state.selected.op : step > 0 ? -1 : 0;
  for (let i = 1; i <= OPS.length; i++) {
    const op = (start + step * i + OPS.length * 2) % OPS.length;
    if (!isConstant(op) && passes(op)) return select({ op });
  }
}

// Keyboard

/** Follow an edge from the selected box: down to the first user, up to the first maker. */
function follow(down) {
  const n = nodeOf(state.selected, view());
  if (!n) return select(view().byRow.length ? subjectOf(view().byRow[0][0]) : null);
  const made = n.sort === OP ? OPS[n.subject].results : n.sort === OUTPUT ? [] : [n.subject];
  const taken = n.sort === OP ? OPS[n.subject].operands || [] : n.sort === OUTPUT ? [view().outputs[n.subject][2]] : [];
  const next = down
    ? made.flatMap((value) => USERS[value]).find((user) => (user.op === undefined ? user.view : OPS[user.op].view) === state.view)
    : taken.filter((value) => value >= 0 && !(makerOf(value) >= 0 && isConstant(makerOf(value)))).map((value) => ({ value }))[0];
  if (!next) return;
  const maker = next.value !== undefined ? makerOf(next.value) : -1;
  select(maker >= 0 ? { op: maker } : next);
}

const subjectOf = (n) => (n.sort === OP ? { op: n.subject } : n.sort === OUTPUT ? { view: state.view, output: n.subject } : { value: n.subject });

function beside(step) {
  const n = nodeOf(state.selected, view());
  if (!n) return;
  const row = view().byRow[n.row];
  select(subjectOf(row[(row.indexOf(n) + step + row.length) % row.length]));
}

function leave() {
  const { owner } = view();
  if (owner >= 0) select({ op: owner });
}

function open() {
  const { op } = state.selected || {};
  if (op !== undefined && OPS[op].bodies) enter(OPS[op].bodies[0][1]);
}

const KEYS = [
  ["/", "search", () => (graphShown() ? byId("query") : byId("text-query")).select()],
  ["ArrowLeft", "", () => pan(-90, 0)],
  ["ArrowRight", "", () => pan(90, 0)],
  ["ArrowUp", "", () => pan(0, -90)],
  ["ArrowDown", "", () => pan(0, 90)],
  ["PageUp", "", () => pan(0, -shown.height * 0.85)],
  ["PageDown", "", () => pan(0, shown.height * 0.85)],
  ["+", "zoom in", () => zoom(1.25)],
  ["=", "", () => zoom(1.25)],
  ["-", "zoom out", () => zoom(0.8)],
  ["0", "show the whole graph", showWhole],
  ["1", "natural size", () => zoom(1 / camera.scale)],
  ["Home", "to the inputs", showStart],
  ["End", "to the outputs", () => { const { byRow, height } = view(); centerOn(byRow.length ? byRow[byRow.length - 1][0].x : 0, height - shown.height / 2 / camera.scale); }],
  ["j", "follow an edge down, to the first user", () => follow(true)],
  ["k", "follow an edge up, to the first maker", () => follow(false)],
  ["h", "box to the left", () => beside(-1)],
  ["l", "box to the right", () => beside(1)],
  ["Enter", "open the body of an If, Loop or Scan", open],
  ["u", "leave a body", leave],
  ["n", "next op of the filter", () => nextFiltered(1)],
  ["N", "previous op of the filter", () => nextFiltered(-1)],
  ["t", "graph or text", () => showTab(graphShown() ? "text" : "graph")],
  ["Escape", "close, then clear the filter", () => (state.selected ? select(null, false) : setFilter(null))],
  ["?", "this list", () => byId("help").showModal()],
];
const ANYWHERE = new Set(["/", "t", "Escape", "?"]);

document.addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (target instanceof HTMLInputElement) {
    if (key === "Escape") target.blur();
    if (key === "Enter") (target.id === "query" ? search : searchText)(event.shiftKey ? -1 : 1);
    return;
  }
  const entry = KEYS.find(([name]) => name === key);
  if (!entry || (!graphShown() && !ANYWHERE.has(key))) return;
  if (target instanceof HTMLButtonElement && key === "Enter") return;
  if (target.closest("aside") && /^(Arrow|Page|Home|End)/.test(key)) return;
  event.preventDefault();
  entry[2]();
});

// Everything together

listeners.push((what) => {
  showPath();
  if (what === "filter") showPressed();
  if (what !== "filter") showDetails();
  if (what === "enter") showStart();
  if (what === "jump") {
    if (!graphShown()) showTab("graph");
    showNode(nodeOf(state.selected, view()));
  }
  redraw();
});

function followAddress() {
  const [, name, number] = /^#(op|view|text)\/(\d+)$/.exec(location.hash) || [];
  if (name === "op" && number < OPS.length) {
    showTab("graph");
    select({ op: Number(number) });
  } else if (name === "view" && number < VIEWS.length) enter(Number(number));
  else if (name === "text") showLine(Number(number));
}

readColors();
fillModel();
prepareText();
for (const [key, meaning] of [["drag, arrows", "move"], ["wheel, pinch", "zoom; with Shift, move sideways"], ["click", "select a box or an edge"], ["double click", "open a body; go to what is captured"], ["Enter in search", "next; with Shift, previous"], ...KEYS]) {
  if (meaning) byId("shortcuts").append(element("dt", {}, element("kbd", {}, key)), element("dd", {}, meaning));
}
for (const tab of ["graph", "text"]) byId("tab-" + tab).addEventListener("click", () => showTab(tab));
byId("query").addEventListener("input", () => search(0));
byId("text-query").addEventListener("input", () => searchText(0));
byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("zoom-in").addEventListener("click", () => zoom(1.25));
byId("zoom-out").addEventListener("click", () => zoom(0.8));
byId("zoom-fit").addEventListener("click", showWhole);
byId("toggle").addEventListener("click", () => {
  byId("toggle").setAttribute("aria-expanded", String(byId("model").classList.toggle("open")));
});
scroller.addEventListener("scroll", () => drawLines());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); redraw(); });
new ResizeObserver(resize).observe(canvas);
new ResizeObserver(() => graphShown() || drawLines(true)).observe(scroller);
window.addEventListener("hashchange", followAddress);
resize();
followAddress();
