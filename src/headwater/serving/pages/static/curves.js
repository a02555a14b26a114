// Curves of a run, drawn from metrics.jsonl as it grows.

const EVERY = 2000; // milliseconds between two looks at a stage that is at work
const WIDTH = 380, HEIGHT = 200, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 24, POINTS = 700;

const svg = (tag, properties) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  return element;
};

/** 1234567 → "1.23 M": a number as an axis wants it. */
export function short(value) {
  for (const [size, unit] of [[1e9, " B"], [1e6, " M"], [1e3, " k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/** About five round numbers from low to high. */
export function ticks(low, high) {
  const raw = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

/** Means over the last `window` points: the trend of a noisy line. */
export function smoothed(points, window) {
  let total = 0;
  return points.map(([x, y], index) => {
    total += y - (index >= window ? points[index - window][1] : 0);
    return [x, total / Math.min(index + 1, window)];
  });
}

const thinned = (points) => (points.length <= POINTS ? points : points.filter((_, index) => index % Math.ceil(points.length / POINTS) === 0 || index === points.length - 1));

function draw(figure, rows, label) {
  const series = figure.dataset.lines.split(" ").map((key) => rows.filter((row) => row[key] !== undefined).map((row) => [row.step, row[key]]));
  const all = series.flat();
  figure.hidden = all.length === 0;
  if (!all.length) return;
  const [low, high] = all.reduce(([a, b], [, y]) => [Math.min(a, y), Math.max(b, y)], [Infinity, -Infinity]);
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1, first = all.reduce((least, [x]) => Math.min(least, x), Infinity);
  const last = Math.max(first + 1, all.reduce((most, [x]) => Math.max(most, x), -Infinity));
  const x = (value) => LEFT + ((value - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low + pad) / (high - low + 2 * pad)) * (HEIGHT - TOP - BOTTOM);
  const path = (points) => thinned(points).map(([a, b], index) => `${index ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
  const title = figure.querySelector("h3").firstChild.textContent.trim(), now = series.find((each) => each.length).at(-1)[1];
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${short(now)}, ${label} ${last}` });
  for (const value of ticks(low - pad, high + pad)) {
    plot.append(svg("path", { class: "axis", d: `M${LEFT} ${y(value).toFixed(1)}H${WIDTH - RIGHT}` }));
    const text = svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" });
    text.textContent = short(value);
    plot.append(text);
  }
  for (const value of ticks(first, last).filter((each) => Number.isInteger(each))) {
    const text = svg("text", { x: x(value), y: HEIGHT - 6, "text-anchor": x(value) > WIDTH - 30 ? "end" : "middle" });
    text.textContent = short(value);
    plot.append(text);
  }
  const faint = figure.dataset.faint !== undefined;
  for (const [place, points] of series.entries()) {
    if (!points.length) continue;
    if (faint) plot.append(svg("path", { class: "faint", d: path(points) }));
    plot.append(svg("path", { class: `line c${place}`, d: path(faint ? smoothed(points, Math.max(1, Math.floor(points.length / 25))) : points) }));
    if (points.length < 40) for (const [a, b] of points) plot.append(svg("circle", { class: `dot c${place}`, cx: x(a), cy: y(b), r: 2.4 }));
  }
  figure.querySelector(".plot").replaceChildren(plot);
  figure.querySelector(".now").textContent = short(now);
}

async function follow(charts) {
  let next = 0, rows = new Map();
  for (;;) {
    let found;
    try {
      const answer = await fetch(`${charts.dataset.curves}?after=${next}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      found = await answer.json();
    } catch {
      found = { rows: [], next, live: true }; // the server is away: it may come back
    }
    if (found.again) rows = new Map();
    const news = found.again || found.rows.length > 0, whole = found.next === next;
    for (const row of found.rows) rows.set(row.step, { ...rows.get(row.step), ...row });
    next = found.next;
    if (news) for (const figure of charts.querySelectorAll("figure")) draw(figure, [...rows.values()].sort((a, b) => a.step - b.step), charts.dataset.step);
    charts.dataset.read = String(next);
    if (!found.live && whole) break;
    if (whole) await new Promise((wake) => setTimeout(wake, EVERY));
  }
  if (!rows.size) charts.closest("section").hidden = true;
}

for (const charts of document.querySelectorAll("[data-curves]")) follow(charts);
