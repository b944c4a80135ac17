// The drawing: only what lies in the window is drawn, found by row and then by place within the row.

const canvas = byId("canvas");
const map = byId("map");
const tip = byId("tip");
const TITLE = 22, ROW = 15;
const CLOSEST = 3;
const camera = { x: 0, y: 0, scale: 1 }; // what lies at the window's top left corner, in the drawing's coordinates
const shown = { width: 0, height: 0, ratio: 1, over: null, overValue: -1, queued: false, map: null };
let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["paper", "panel", "ink", "dim", "line", "edge", "accent", "maker", "user", "found", "input", "output"];
  colors = {};
  const engines = Array.from({ length: ENGINE_COLORS }, (_, engine) => engineColor(engine));
  for (const name of [...names, "capture", "symbolic", ...engines, ...MODEL.kinds.map(([key]) => key)]) {
    colors[name] = style.getPropertyValue("--" + name).trim();
  }
}

const view = () => VIEWS[state.view];
const opColor = ({ kind, engine }) => (state.byEngine && engine !== undefined ? engineColor(engine) : kind);
const colorOf = (n) => colors[n.sort === OP ? opColor(OPS[n.subject]) : ["input", "capture", "", "output"][n.sort]];

function redraw() {
  if (shown.queued) return;
  shown.queued = true;
  requestAnimationFrame(() => {
    shown.queued = false;
    draw();
  });
}

/** The first row whose bottom lies below `y`. */
function rowAt(y) {
  const { rows } = view();
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle][1] < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first node of a row that ends right of `x`. */
function firstRightOf(row, x) {
  let low = 0, high = row.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (row[middle].x + row[middle].width < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Calls `each` for the nodes of the current view that touch a rectangle. */
function nodesIn(left, top, right, bottom, each) {
  const { byRow, rows } = view();
  for (let row = rowAt(top); row < byRow.length && rows[row][0] <= bottom; row++) {
    const nodes = byRow[row];
    for (let i = firstRightOf(nodes, left); i < nodes.length && nodes[i].x <= right; i++) each(nodes[i]);
  }
}

/** Calls `each(value, x0, start, top, bottom, x1, arrives)` for the pieces of edges that touch a rectangle. */
function piecesIn(left, top, right, bottom, each) {
  const { gaps, rows } = view();
  for (let row = Math.max(rowAt(top) - 1, 0); row + 1 < rows.length && rows[row][0] <= bottom; row++) {
    const gap = gaps[row], low = rows[row][1], next = rows[row + 1][0];
    for (let i = 0; i < gap.length; i += 5) {
      const x0 = gap[i + 1], x1 = gap[i + 3];
      if (Math.max(x0, x1) < left || Math.min(x0, x1) > right) continue;
      each(gap[i], x0, gap[i + 2], low, next, x1, gap[i + 4]);
    }
  }
}

/** The values whose edges are marked, with their colours. */
function marked() {
  const values = new Map();
  const { selected } = state;
  const ownNode = nodeOf(selected, view());
  const op = ownNode && ownNode.sort === OP ? ownNode.subject : undefined;
  if (op !== undefined) {
    for (const value of OPS[op].operands || []) if (value >= 0) values.set(value, colors.maker);
    for (const value of OPS[op].results) values.set(value, colors.user);
  } else if (ownNode && ownNode.sort === OUTPUT) values.set(view().outputs[ownNode.subject][2], colors.maker);
  else if (ownNode) values.set(ownNode.subject, colors.user);
  if (shown.overValue >= 0) values.set(shown.overValue, colors.accent);
  return values;
}

function strokeEdges(context, area, wanted, color, width) {
  const { scale } = camera;
  const heads = scale > 0.3 ? [] : null;
  const piece = (value, x0, start, top, bottom, x1, arrives) => {
    if (wanted && !wanted(value)) return;
    context.moveTo(x0, start);
    if (scale < 0.12) context.lineTo(x1, bottom);
    else {
      const middle = (top + bottom) / 2;
      if (start < top) context.lineTo(x0, top);
      context.bezierCurveTo(x0, middle, x1, middle, x1, bottom);
    }
    if (arrives && heads) heads.push(x1, bottom);
  };
  context.strokeStyle = context.fillStyle = color;
  context.lineWidth = width;
  context.beginPath();
  piecesIn(...area, piece);
  context.stroke();
  context.beginPath();
  context.setLineDash([8, 6]);
  for (const [value, x0, y0, x1, y1] of view().edges) {
    if (y1 < area[1] || y0 > area[3] || (wanted && !wanted(value))) continue;
    const bend = Math.min(160, (y1 - y0) / 2);
    context.moveTo(x0, y0);
    context.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1);
    if (heads) heads.push(x1, y1);
  }
  context.stroke();
  context.setLineDash([]);
  if (!heads) return;
  context.beginPath();
  for (let i = 0; i < heads.length; i += 2) {
    context.moveTo(heads[i], heads[i + 1]);
    context.lineTo(heads[i] - 3.5, heads[i + 1] - 7);
    context.lineTo(heads[i] + 3.5, heads[i + 1] - 7);
  }
  context.fill();
}

const SANS = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';
const MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace';

function drawNode(context, n, found) {
  const { scale } = camera;
  const dimmed = state.filter && n !== shown.selectedNode && !(n.sort === OP && passes(n.subject));
  context.globalAlpha = dimmed ? 0.25 : 1;
  const color = colorOf(n);
  if (scale < 0.2) {
    context.fillStyle = color;
    context.fillRect(n.x, n.y, Math.max(n.width, 1.5 / scale), Math.max(n.height, 1 / scale));
  } else {
    const radius = n.sort === OP ? 5 : 11;
    context.beginPath();
    context.roundRect(n.x, n.y, n.width, n.height, radius);
    context.fillStyle = n.rows.length ? colors.panel : color;
    context.fill();
    context.beginPath();
    context.roundRect(n.x, n.y, n.width, Math.min(TITLE, n.height), n.rows.length ? [radius, radius, 0, 0] : radius);
    context.fillStyle = color;
    context.fill();
    context.beginPath();
    context.roundRect(n.x, n.y, n.width, n.height, radius);
    context.strokeStyle = color;
    context.lineWidth = 1;
    context.stroke();
  }
  if (scale >= 0.28) drawWords(context, n);
  context.globalAlpha = 1;
  const outline = n === shown.selectedNode ? colors.accent : found.has(n) ? colors.found : n === shown.over ? colors.ink : "";
  if (!outline) return;
  const wide = Math.max(outline === colors.ink ? 1.5 : 3, (outline === colors.ink ? 1 : 2.5) / scale);
  context.strokeStyle = outline;
  context.lineWidth = wide;
  context.beginPath();
  context.roundRect(n.x - wide / 2, n.y - wide / 2, n.width + wide, n.height + wide, n.sort === OP ? 6 : 12);
  context.stroke();
}

function drawWords(context, n) {
  context.textBaseline = "middle";
  context.fillStyle = "#fff";
  context.font = `600 12.5px ${SANS}`;
  context.textAlign = "center";
  context.fillText(n.title, n.x + n.width / 2, n.y + TITLE / 2 + 0.5, n.width - 8);
  if (camera.scale < 0.45) return;
  context.textAlign = "left";
  context.font = `11px ${MONO}`;
  n.rows.forEach(([name, text], index) => {
    const y = n.y + TITLE + ROW * (index + 0.5) + 2.5;
    let x = n.x + 9;
    if (name) {
      context.fillStyle = name === "▸" ? colors.accent : colors.dim;
      context.fillText(name, x, y);
      x += context.measureText(name + " ").width;
    }
    context.fillStyle = name === "▸" ? colors.accent : name === "→" || n.sort !== OP ? colors.dim : colors.ink;
    context.fillText(text, x, y, n.x + n.width - x - 5);
  });
}

function draw() {
  const { width, height, ratio } = shown;
  if (!width || !height) return;
  const { x, y, scale } = camera;
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio * scale, 0, 0, ratio * scale, -x * scale * ratio, -y * scale * ratio);
  const area = [x, y, x + width / scale, y + height / scale];
  shown.selectedNode = nodeOf(state.selected, view());
  const found = new Set(state.found.filter((op) => OPS[op].view === state.view).map((op) => view().ofOp.get(op)));
  const values = marked();
  context.globalAlpha = state.filter || values.size ? 0.55 : 1;
  // From so far away that rows melt into each other, edges cannot be seen and would take most of the time.
  const pitch = (view().height / view().rows.length) * scale;
  if (pitch > 2) strokeEdges(context, area, null, colors.edge, Math.max(1.2, 0.7 / scale));
  context.globalAlpha = 1;
  for (const color of new Set(values.values())) {
    strokeEdges(context, area, (value) => values.get(value) === color, color, Math.max(2.2, 1.6 / scale));
  }
  nodesIn(...area, (n) => drawNode(context, n, found));
  drawMap();
}

/** The overview at the edge: the whole drawing squeezed into it, made once for each view, and the window as a frame. */
function drawMap() {
  const { width, height } = view();
  const fits = width * camera.scale <= shown.width && height * camera.scale <= shown.height;
  map.hidden = fits || shown.width < 560;
  if (map.hidden) return;
  const tall = Math.max(90, Math.min(shown.height - 20, (height / width) * 100));
  const wide = Math.max(36, Math.min(110, (width / height) * tall));
  const { ratio } = shown;
  const key = [state.view, tall, wide, ratio, colors.panel, state.byEngine, state.filter && JSON.stringify(state.filter)].join();
  const context = map.getContext("2d");
  if (!shown.map || shown.map.key !== key) {
    map.style.width = wide + "px";
    map.style.height = tall + "px";
    const image = document.createElement("canvas");
    image.width = map.width = Math.round(wide * ratio);
    image.height = map.height = Math.round(tall * ratio);
    const small = image.getContext("2d");
    small.scale(image.width / width, image.height / height);
    const least = (1.5 * width) / image.width, flat = (1 * height) / image.height;
    for (const n of view().nodes) {
      small.globalAlpha = state.filter && !(n.sort === OP && passes(n.subject)) ? 0.15 : 1;
      small.fillStyle = colorOf(n);
      small.fillRect(n.x, n.y, Math.max(n.width, least), Math.max(n.height, flat));
    }
    shown.map = { key, image };
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, map.width, map.height);
  context.drawImage(shown.map.image, 0, 0);
  const sx = map.width / width, sy = map.height / height;
  context.strokeStyle = colors.accent;
  context.lineWidth = 2 * ratio;
  const left = Math.max(camera.x * sx, 1), top = Math.max(camera.y * sy, 1);
  const right = Math.min((camera.x + shown.width / camera.scale) * sx, map.width - 1);
  const bottom = Math.min((camera.y + shown.height / camera.scale) * sy, map.height - 1);
  context.strokeRect(left, top, Math.max(right - left, 3), Math.max(bottom - top, 3));
}

function resize() {
  const { clientWidth, clientHeight } = canvas;
  if (!clientWidth || !clientHeight) return;
  const first = !shown.width;
  shown.ratio = window.devicePixelRatio || 1;
  shown.width = clientWidth;
  shown.height = clientHeight;
  canvas.width = Math.round(clientWidth * shown.ratio);
  canvas.height = Math.round(clientHeight * shown.ratio);
  if (first) changed(state.selected ? "jump" : "enter");
  draw();
}

const wholeScale = () => Math.min(shown.width / view().width, shown.height / view().height);
const smallestScale = () => Math.min(wholeScale() * 0.8, 0.5);

function zoom(factor, px = shown.width / 2, py = shown.height / 2) {
  const scale = Math.min(CLOSEST, Math.max(smallestScale(), camera.scale * factor));
  camera.x += px / camera.scale - px / scale;
  camera.y += py / camera.scale - py / scale;
  camera.scale = scale;
  redraw();
}

function pan(dx, dy) {
  camera.x += dx / camera.scale;
  camera.y += dy / camera.scale;
  redraw();
}

function centerOn(x, y) {
  camera.x = x - shown.width / 2 / camera.scale;
  camera.y = y - shown.height / 2 / camera.scale;
  redraw();
}

function showWhole() {
  camera.scale = Math.min(1.25, wholeScale());
  centerOn(view().width / 2, view().height / 2);
}

/** A first look at a view: all of it where that can be read, else its upper end. */
function showStart() {
  camera.scale = Math.min(1, wholeScale());
  if (camera.scale >= 0.55) return showWhole();
  camera.scale = Math.min(1, Math.max(0.75, shown.width / view().width));
  const [first] = view().nodes;
  const half = shown.height / 2 / camera.scale;
  if (first) centerOn(first.x + first.width / 2, first.y + first.height < 1.8 * half ? half : first.y + half / 2);
}

function showNode(n) {
  if (!n) return redraw();
  camera.scale = Math.max(camera.scale, 0.75);
  centerOn(n.x + n.width / 2, n.y + n.height / 2);
}
