// The text form: only the lines in the window exist as elements.

const LINES = MODEL.text.split("\n");
const LINE_HEIGHT = 18;
const LONGEST_LINE = 5000;
const sheet = byId("sheet");
const scroller = byId("lines");
const text = { current: -1, found: [], at: -1, query: "", first: -1, last: -1 };
const PIECES = /"(?:\\.|[^"\\])*"|%[A-Za-z0-9_.$\/-]+|[^%"]+|[%"]/g;

function prepareText() {
  const longest = LINES.reduce((most, line) => Math.max(most, Math.min(line.length, LONGEST_LINE)), 0);
  sheet.style.height = LINES.length * LINE_HEIGHT + "px";
  sheet.style.width = `calc(${longest}ch * 1.02 + 10em)`;
  sheet.style.font = `12px/18px ${MONO}`;
  if (MODEL.cut) {
    byId("text-note").textContent =
      `The last ${MODEL.cut.toLocaleString("en")} of ${MODEL.lines.toLocaleString("en")} lines are left out; irc inspect --ir prints all of them.`;
  }
}

function highlighted(line) {
  const cut = line.length > LONGEST_LINE ? line.slice(0, LONGEST_LINE) + " …" : line;
  const { query } = text;
  if (query && cut.toLowerCase().includes(query)) {
    const parts = [];
    const low = cut.toLowerCase();
    let from = 0;
    for (let at = low.indexOf(query); at >= 0; at = low.indexOf(query, from)) {
      parts.push(cut.slice(from, at), element("mark", {}, cut.slice(at, at + query.length)));
      from = at + query.length;
    }
    return [...parts, cut.slice(from)];
  }
  return (cut.match(PIECES) || []).map((piece) => {
    const sort = piece[0] === "%" && piece.length > 1 ? "v" : piece[0] === '"' && piece.length > 1 ? "l" : "";
    return sort ? element("span", { class: sort }, piece) : piece;
  });
}

function drawLines(force = false) {
  const first = Math.max(0, Math.floor(scroller.scrollTop / LINE_HEIGHT) - 10);
  const last = Math.min(LINES.length, first + Math.ceil(scroller.clientHeight / LINE_HEIGHT) + 20);
  if (!force && first === text.first && last === text.last) return;
  Object.assign(text, { first, last });
  const rows = [];
  for (let number = first; number < last; number++) {
    const op = lineOps.get(number);
    const label = element("a", {}, String(number + 1));
    if (op !== undefined) {
      label.setAttribute("href", `#op/${op}`);
      label.setAttribute("title", "show in the graph");
    }
    const current = number === text.current ? " current" : "";
    rows.push(element("div", { class: "row" + current, top: number * LINE_HEIGHT + "px" }, label, ...highlighted(LINES[number])));
  }
  sheet.replaceChildren(...rows);
}

function showLine(number) {
  showTab("text");
  if (number >= LINES.length) return;
  text.current = number;
  scroller.scrollTop = Math.max(0, (number + 0.5) * LINE_HEIGHT - scroller.clientHeight / 2);
  drawLines(true);
}

function searchText(step) {
  const query = byId("text-query").value.trim().toLowerCase();
  if (query !== text.query) {
    text.query = query;
    text.found = [];
    text.at = -1;
    if (query) LINES.forEach((line, number) => line.toLowerCase().includes(query) && text.found.push(number));
    if (!step) drawLines(true);
  }
  const count = text.found.length;
  if (step && count) {
    text.at = text.at < 0 ? (step > 0 ? 0 : count - 1) : (text.at + step + count) % count;
    showLine(text.found[text.at]);
  }
  byId("text-found").textContent = !query ? "" : count ? `${text.at < 0 ? "" : text.at + 1 + " of "}${count} lines` : "none";
}
