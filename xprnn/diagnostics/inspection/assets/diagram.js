/* The network unfolded in time, and the curve of its gradient. */

const GUTTER = 4;
const LABELS = 78;
const PITCH = 58;
const BOX = 34;
const MOST_CELLS = 3000;

/* Steps whose losses reach a state, [first, last] within the sequence. */
function reachOf(layer, t) {
  const total = DATA.steps - 1;
  const window = DATA.window ?? total;
  const both = DATA.layers.some((one) => one.reverse) && DATA.layers.some((one) => one.layer > 0);
  const low = both || layer.reverse ? t - window : t;
  const high = both || !layer.reverse ? t + window : t;
  return [Math.max(0, low), Math.min(total, high)];
}

/* Rows of the drawing from top to bottom: loss, y, layers, x. */
function diagramRows() {
  const rows = [];
  if (DATA.loss) rows.push({ kind: "loss", label: "loss" });
  rows.push({ kind: "y", label: "y" });
  DATA.layers.map((_, k) => k).reverse().forEach((k) => {
    const layer = DATA.layers[k];
    rows.push({ kind: "h", label: `h, layer ${layer.layer}${layer.reverse ? " ←" : ""}`, layer: k });
  });
  rows.push({ kind: "x", label: DATA.tokens ? "token" : "x" });
  return rows;
}

function rowNamed(layer, pass, name) {
  return layer[pass].rows.find((row) => row.name === name);
}

/* Whether layer k has reached step t when the walk is at `state`. */
function done(k, t, state) {
  const at = DATA.layers[state.layer];
  const layer = DATA.layers[k];
  const upwards = state.pass === "forward";
  if (k !== state.layer) return upwards ? k < state.layer : k > state.layer;
  const later = layer.reverse ? t <= state.t : t >= state.t;
  const earlier = at.reverse ? t >= state.t : t <= state.t;
  return upwards ? earlier : later;
}

function hColour(layer, t, pass, most) {
  const dh = rowOf(rowNamed(layer, "backward", "dh").array, t);
  if (pass === "backward") {
    const size = norm(dh);
    if (!Number.isFinite(size)) return [colour(NaN, 1), size];
    const [low, high] = most;
    const share = size > 0 ? 0.12 + 0.88 * (high > low ? (Math.log10(size) - low) / (high - low) : 1) : 0;
    return [colour(dh.length === 1 ? Math.sign(dh[0]) * share : share, 1), dh.length === 1 ? dh[0] : size];
  }
  const h = rowOf(rowNamed(layer, "forward", "h").array, t);
  if (h.length === 1) return [colour(h[0], most), h[0]];
  return [colour(norm(h) / Math.sqrt(h.length), most), norm(h)];
}

/* The drawing as SVG text. */
function diagramMarkup(state) {
  const rows = diagramRows();
  const pitch = DATA.tokens ? 80 : 70;
  const wide = pitch - 16;
  const count = DATA.shown + DATA.padding;
  const width = GUTTER + count * pitch + 16;
  const height = rows.length * PITCH + 30;
  const y = (r) => 14 + r * PITCH;
  const x = (t) => GUTTER + t * pitch + 8;
  const layer = DATA.layers[state.layer];
  const back = state.pass === "backward";
  const out = [];
  const [from, to] = reachOf(layer, state.t + DATA.first);
  const scales = DATA.layers.map((one) => {
    if (!back) return largest(numbersOf(rowNamed(one, "forward", "h").array)) || 1;
    const sizes = [...numbersOf(one.norms)].filter((n) => Number.isFinite(n) && n > 0).map(Math.log10);
    return sizes.length ? [Math.min(...sizes), Math.max(...sizes)] : [0, 0];
  });
  const cells = DATA.layers.reduce((n, one) => n + DATA.arrays[rowNamed(one, "forward", "h").array].width, 0) * DATA.shown;
  for (let t = 0; t < count; t++) {
    const now = t === state.t && t < DATA.shown;
    out.push(`<rect class="column${now ? " now" : ""}" data-t="${t}" x="${x(t) - 8}" y="0" width="${pitch}" height="${height}"/>`);
  }
  /* Arrows, under the boxes. */
  rows.forEach((row, r) => {
    for (let t = 0; t < DATA.shown; t++) {
      const here = t === state.t;
      const middle = x(t) + wide / 2;
      const hasOutput = !DATA.output.last || t + DATA.first === DATA.steps - 1;
      if (r + 1 < rows.length && (hasOutput || row.kind === "h")) {
        const mine = row.kind === "h" ? row.layer === state.layer || rows[r + 1].layer === state.layer : rows[r + 1].layer === state.layer;
        const cut = back && DATA.window !== null && row.kind !== "h" && (t + DATA.first < from || t + DATA.first > to);
        const [a, b] = [y(r) + BOX, y(r + 1)];
        const [start, end] = back ? [a, b - 3] : [b, a + 3];
        const lit = here && mine && !cut;
        out.push(`<line class="edge${lit ? " now" : ""}${cut ? " cut" : ""}" x1="${middle}" x2="${middle}" y1="${start}" y2="${end}" marker-end="url(#tip)"/>`);
      }
      if (row.kind === "h") {
        const one = DATA.layers[row.layer];
        const next = one.reverse ? t - 1 : t + 1;
        if (next < 0 || next >= DATA.shown) continue;
        /* Into the current step: from the step before it, or, on the way back, from the one after. */
        const into = back ? t : next;
        const lit = row.layer === state.layer && into === state.t && !(back && DATA.window === 0);
        const [tail, head] = back ? [next, t] : [t, next];
        const right = head > tail;
        const h = y(r) + BOX / 2;
        const [a, b] = right ? [x(tail) + wide, x(head) - 3] : [x(tail), x(head) + wide + 3];
        out.push(`<line class="edge${lit ? " now" : ""}" x1="${a}" x2="${b}" y1="${h}" y2="${h}" marker-end="url(#tip)"/>`);
      }
    }
  });
  rows.forEach((row, r) => {
    for (let t = 0; t < count; t++) {
      const box = { text: "", fill: "", kind: "", cells: "" };
      const padded = t >= DATA.shown;
      const reached = t + DATA.first >= from && t + DATA.first <= to;
      let strength = 0;
      if (padded) box.kind = "padding";
      else if (row.kind === "h") {
        const one = DATA.layers[row.layer];
        if (!done(row.layer, t, state)) box.kind = "pending";
        else {
          const h = rowOf(rowNamed(one, "forward", "h").array, t);
          const [fill, value] = hColour(one, t, state.pass, scales[row.layer]);
          box.fill = fill;
          box.text = written(value, 2);
          const share = back ? 1 : h.length === 1 ? Math.abs(h[0]) / scales[row.layer] : 0;
          strength = back && fill !== colour(0, 1) ? backStrength(one, t, scales[row.layer]) : share;
          if (!back && h.length > 1 && h.length <= 64 && cells <= MOST_CELLS) {
            box.cells = cellMarkup(h, x(t), y(r), wide, scales[row.layer]);
            box.text = "";
          }
        }
        if (row.layer === state.layer && t === state.t) box.kind += " now";
      } else if (row.kind === "x") {
        box.fill = "var(--back)";
        if (DATA.tokens) box.text = shortened(DATA.tokens[t], 10);
        else {
          const values = rowOf(rowNamed(DATA.layers[0], "forward", "x").array, t);
          box.text = values.length === 1 ? written(values[0], 3) : "";
          if (values.length > 1 && values.length <= 64 && cells <= MOST_CELLS) {
            box.cells = cellMarkup(values, x(t), y(r), wide, largest(numbersOf(rowNamed(DATA.layers[0], "forward", "x").array)));
          }
        }
      } else {
        const hasOutput = !DATA.output.last || t + DATA.first === DATA.steps - 1;
        if (!hasOutput) continue;
        const at = DATA.output.last ? 0 : t;
        box.fill = "var(--back)";
        if (row.kind === "y") {
          const values = rowOf(DATA.output.y, at);
          box.text = outputText(at, back);
          if (!back && !box.text && values.length <= 64 && cells <= MOST_CELLS) {
            box.cells = cellMarkup(values, x(t), y(r), wide, largest(numbersOf(DATA.output.y)));
          }
        }
        else box.text = DATA.output.losses === null ? "" : written(rowOf(DATA.output.losses, at)[0], 2);
        const top = DATA.layers.length - 1;
        if (!back && (state.layer < top || !done(top, t, state))) box.kind = "pending";
        if (box.kind === "pending") box.text = box.cells = "";
        if (back && DATA.window !== null && !reached) { box.kind = "cut"; box.text = row.kind === "loss" ? "cut" : box.text; }
      }
      const style = box.fill && box.kind.trim() !== "pending" ? ` style="fill:${box.fill}"` : "";
      out.push(`<rect class="box ${box.kind}" data-t="${t}"${row.kind === "h" ? ` data-layer="${row.layer}"` : ""} x="${x(t)}" y="${y(r)}" width="${wide}" height="${BOX}" rx="6"${style}/>`);
      out.push(box.cells);
      if (box.text) {
        const inked = row.kind === "h" ? ` style="fill:${ink(strength, 1)};pointer-events:none"` : ' style="pointer-events:none"';
        out.push(`<text class="value" x="${x(t) + wide / 2}" y="${y(r) + BOX / 2 + 4}"${inked}>${escaped(box.text)}</text>`);
      }
    }
  });
  for (let t = 0; t < count; t++) {
    const label = t < DATA.shown ? t + DATA.first : "padding";
    if (t > DATA.shown) continue;
    out.push(`<text class="axis" text-anchor="middle" x="${x(t) + wide / 2}" y="${height - 6}">${label}</text>`);
  }
  const labels = rows.map((row, r) => `<text class="axis" x="8" y="${y(r) + BOX / 2 + 4}">${escaped(row.label)}</text>`);
  labels.push(`<text class="axis" x="8" y="${height - 6}">step t</text>`);
  return {
    pitch,
    labels: `<svg width="${LABELS}" height="${height}">${labels.join("")}</svg>`,
    text: `<svg width="${width}" height="${height}" role="img" aria-label="${escaped(diagramLabel(state))}">
      <defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker>
      <pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line y2="6" stroke="currentColor" stroke-opacity=".35" stroke-width="2"/></pattern></defs>
      ${out.join("")}</svg>`,
  };
}

function backStrength(layer, t, [low, high]) {
  const size = norm(rowOf(rowNamed(layer, "backward", "dh").array, t));
  if (!Number.isFinite(size)) return NaN;
  return size > 0 ? 0.12 + 0.88 * (high > low ? (Math.log10(size) - low) / (high - low) : 1) : 0;
}

function cellMarkup(values, left, top, wide, scale) {
  const across = Math.ceil(Math.sqrt(values.length * 1.4));
  const down = Math.ceil(values.length / across);
  const [w, h] = [(wide - 6) / across, (BOX - 6) / down];
  let text = "";
  values.forEach((v, k) => {
    text += `<rect pointer-events="none" x="${(left + 3 + (k % across) * w).toFixed(1)}" y="${(top + 3 + Math.floor(k / across) * h).toFixed(1)}" width="${w.toFixed(1)}" height="${h.toFixed(1)}" fill="${colour(v, scale)}"/>`;
  });
  return text;
}

function shortened(text, most) {
  const characters = [...text];
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : text.replace("\n", "⏎").replace(/^ $/, "␣");
}

function outputText(at, back) {
  const values = rowOf(back ? DATA.output.dy : DATA.output.y, at);
  if (values.length === 1) return written(values[0], 2);
  if (!back && DATA.output.classes && Object.keys(DATA.output.names).length) {
    const best = values.reduce((k, v, j) => (v > values[k] ? j : k), 0);
    const number = DATA.output.chosen === null ? best : rowOf(DATA.output.chosen, at)[best];
    return shortened(DATA.output.names[number] ?? String(number), 10);
  }
  return back ? written(norm(values), 2) : "";
}

function diagramLabel(state) {
  const layer = DATA.layers[state.layer];
  return `The network drawn over steps ${DATA.first} to ${DATA.first + DATA.shown - 1}; ${state.pass} pass at step ${state.t + DATA.first}, ${layer.name}. The slider below moves through it.`;
}

/* The norm of dh over all steps, on a logarithmic scale. */

const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const CURVES = { light: ["#0b5ea8", "#a34700", "#3d7a33", "#7a3d8f"], dark: ["#74b8f5", "#f7a85c", "#8fd07f", "#d39be8"] };

function overviewMarkup(state, width) {
  const height = 132;
  const [left, right, top, bottom] = [56, 14, 12, 26];
  const total = DATA.steps;
  const curves = DATA.layers.map((layer) => numbersOf(layer.norms));
  const sizes = curves.flatMap((curve) => [...curve]).filter((n) => Number.isFinite(n) && n > 0).map(Math.log10);
  if (!sizes.length) return { text: `<svg width="${width}" height="40"><text x="12" y="24">There is no gradient that is finite and not zero.</text></svg>`, step: null };
  let [low, high] = [Math.floor(Math.min(...sizes)), Math.ceil(Math.max(...sizes))];
  if (high === low) high += 1;
  const x = (t) => left + (total > 1 ? (t / (total - 1)) * (width - left - right) : 0);
  const y = (size) => top + ((high - Math.log10(size)) / (high - low)) * (height - top - bottom);
  const out = [];
  const jump = Math.ceil((high - low) / 4);
  for (let power = low; power <= high; power += jump) {
    out.push(`<line class="grid" x1="${left}" x2="${width - right}" y1="${y(10 ** power)}" y2="${y(10 ** power)}"/>`);
    out.push(`<text class="axis" text-anchor="end" x="${left - 6}" y="${y(10 ** power) + 4}">${power >= 0 && power < 4 ? 10 ** power : `1e${power}`.replace("-", "−")}</text>`);
  }
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 1e5, 1e6].find((n) => (n / Math.max(1, total - 1)) * (width - left - right) >= 34) ?? total;
  for (let t = 0; t < total; t += every) {
    out.push(`<text class="axis" text-anchor="middle" x="${x(t)}" y="${height - 8}">${t}</text>`);
  }
  curves.forEach((curve, k) => {
    let path = "";
    let pen = "M";
    const dots = [];
    curve.forEach((size, t) => {
      if (Number.isFinite(size) && size > 0) {
        path += `${pen}${x(t).toFixed(1)} ${y(size).toFixed(1)}`;
        pen = "L";
        if (total <= 60) dots.push(`<circle r="2.5" cx="${x(t).toFixed(1)}" cy="${y(size).toFixed(1)}" fill="${CURVES[DARK.matches ? "dark" : "light"][k % 4]}"/>`);
      } else pen = "M";
    });
    const colourOf = CURVES[DARK.matches ? "dark" : "light"][k % 4];
    out.push(`<path class="curve" d="${path}" stroke="${colourOf}" stroke-dasharray="${DASHES[k % 4]}"/>`, ...dots);
  });
  DATA.layers.forEach((layer, k) => {
    const t = steepest(layer);
    if (t === null) return;
    const [a, b] = [x(t), y(curves[k][t])];
    out.push(`<path class="steepest" d="M${a} ${b - 4}l-5 -9h10z"/>`);
    // On the side that the gradient comes from: there its curve is lower.
    const fits = layer.reverse ? a > left + 60 : a < width - 60;
    const after = layer.reverse !== fits;
    out.push(`<text class="axis over" x="${a + (after ? 9 : -9)}" text-anchor="${after ? "start" : "end"}" y="${Math.max(b - 5, 10)}">×${written(numbersOf(layer.passed)[t] / curves[k][t], 3)}</text>`);
  });
  const here = state.t + DATA.first;
  out.push(`<line class="marker" x1="${x(here)}" x2="${x(here)}" y1="${top - 4}" y2="${height - bottom}"/>`);
  const label = `‖dh(t)‖ over the steps, from ${written(10 ** Math.min(...sizes))} to ${written(10 ** Math.max(...sizes))}, logarithmic`;
  return {
    step: (pixel) => Math.round(((pixel - left) / (width - left - right)) * (total - 1)),
    text: `<svg width="${width}" height="${height}" role="img" aria-label="${escaped(label)}">${out.join("")}</svg>`,
  };
}

/* The step at which the gradient grows most on its way back; null where it never grows. */
function steepest(layer) {
  const [sizes, passed] = [numbersOf(layer.norms), numbersOf(layer.passed)];
  let found = null;
  let most = 1;
  let least = Infinity;
  sizes.forEach((size, t) => {
    const factor = passed[t] / size;
    const final = layer.reverse ? t === DATA.steps - 1 : t === 0;
    if (final || !Number.isFinite(factor)) return;
    least = Math.min(least, factor);
    if (factor > most) [found, most] = [t, factor];
  });
  return least < most * (1 - 1e-6) ? found : null;
}

function legendMarkup() {
  const palette = CURVES[DARK.matches ? "dark" : "light"];
  return DATA.layers.map((layer, k) => `<svg width="26" height="10" style="display:inline" aria-hidden="true"><line class="curve" x1="1" x2="25" y1="5" y2="5" stroke="${palette[k % 4]}" stroke-dasharray="${DASHES[k % 4]}"/></svg> ${escaped(layer.name)}`).join(" &emsp; ");
}
