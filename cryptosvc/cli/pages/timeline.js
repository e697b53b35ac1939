// The life of a key as a drawing: its changes, its refusals, and how much it was used each month.

const [WIDTH, HEIGHT, LEFT, AXIS] = [1100, 190, 40, 110];

function part(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

// Drawn for those who see it; the tables below it say the same, so assistive technology is not shown it.
export function timeline(story) {
  const changes = story.changes.map((one) => ({ at: Date.parse(one.time), what: one.state || one.kind }));
  const refusals = story.refusals.map((one) => ({ at: Date.parse(one.time) }));
  const months = new Map();
  for (const one of story.uses_by_month) months.set(one.month, (months.get(one.month) ?? 0) + one.count);
  const uses = [...months].map(([month, count]) => ({ at: Date.parse(`${month}-01T00:00:00Z`), month, count }));
  const ends = [story.first_use, story.last_use].filter(Boolean).map((one) => Date.parse(one.time));
  const moments = [...changes, ...refusals].map((one) => one.at).concat(ends).filter(Number.isFinite);
  if (!moments.length) return null;
  const [begin, end] = [Math.min(...moments), Math.max(...moments)];
  const across = (at) => LEFT + ((at - begin) / (end - begin || 1)) * (WIDTH - 2 * LEFT);
  const svg = part("svg", { class: "timeline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  svg.append(part("line", { x1: LEFT, x2: WIDTH - LEFT, y1: AXIS, y2: AXIS }));
  const most = Math.max(1, ...uses.map((one) => one.count));
  for (const one of uses) {
    const next = new Date(one.at);
    next.setUTCMonth(next.getUTCMonth() + 1);
    const from = across(Math.max(one.at, begin));
    const width = Math.max(3, across(Math.min(next.getTime(), end)) - from - 2);
    const height = (one.count / most) * 40;
    svg.append(part("rect", { x: from, y: HEIGHT - 20 - height, width, height }));
    svg.append(part("text", { x: from, y: HEIGHT - 6 }, `${one.month}: ${one.count}`));
  }
  changes.forEach((one, number) => {
    const [x, y] = [across(one.at), AXIS - 22 - 18 * (number % 5)];
    svg.append(part("line", { x1: x, x2: x, y1: y, y2: AXIS }));
    svg.append(part("circle", { class: "change", cx: x, cy: AXIS, r: 5 }));
    const right = x > WIDTH - 160;
    svg.append(part("text", { x: right ? x - 4 : x + 4, y: y + 8, "text-anchor": right ? "end" : "start" }, one.what));
  });
  for (const one of refusals) svg.append(part("circle", { class: "refusal", cx: across(one.at), cy: AXIS, r: 4 }));
  return svg;
}
