/* Vectors and matrices, as numbers or as heat maps. */

const FEW = 8;
const FEW_ENTRIES = 32;
const MOST_PIXELS = 250000;
const MOST_SUMMED = 2e7;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/* One vector.  `labels` are names of its entries; `choose` is told which entry was clicked. */
function vectorView(values, { name, scale, labels, unit, asNumbers, choose, what = "unit" }) {
  const full = scale ?? largest(values);
  const label = (k) => (labels ? labels[k] : `${what} ${k}`);
  if (values.length <= FEW || asNumbers) {
    const list = element("div", { class: "numbers" });
    values.forEach((x, k) => {
      const one = element("span", { title: `${label(k)}: ${x}` }, labels ? `${labels[k]}: ${written(x)}` : written(x));
      one.style.background = colour(x, full);
      one.style.color = ink(x, full);
      if (k === unit && values.length > 1) one.className = "unit";
      list.append(one);
    });
    return list;
  }
  const across = values.length <= 32 ? 16 : Math.min(64, Math.ceil(Math.sqrt(values.length * 3)));
  const size = Math.max(4, Math.min(18, Math.floor(320 / across)));
  return heatMap({
    name, full, unit, choose, size,
    columns: Math.min(across, values.length),
    rows: Math.ceil(values.length / across),
    count: values.length,
    at: (r, c) => values[r * across + c],
    place: (r, c) => r * across + c,
    label: (r, c) => label(r * across + c),
  });
}

/* One matrix, entry (r, c) by `at`. */
function matrixView(rows, columns, at, { name, unit, asNumbers, choose }) {
  let full = 0;
  const step = Math.ceil(Math.sqrt((rows * columns) / MOST_PIXELS));
  for (let r = 0; r < rows; r += step) {
    for (let c = 0; c < columns; c += step) {
      const x = Math.abs(at(r, c));
      if (Number.isFinite(x) && x > full) full = x;
    }
  }
  if (rows * columns <= FEW_ENTRIES || (asNumbers && rows * columns <= 1024)) {
    const table = element("table", { class: "matrix", "aria-label": name });
    for (let r = 0; r < rows; r++) {
      const line = element("tr");
      for (let c = 0; c < columns; c++) {
        const x = at(r, c);
        const cell = element("td", { title: `row ${r}, column ${c}: ${x}` }, written(x));
        cell.style.background = colour(x, full);
        cell.style.color = ink(x, full);
        line.append(cell);
      }
      table.append(line);
    }
    return element("div", { class: "wide" }, table);
  }
  const across = Math.ceil(columns / step);
  return heatMap({
    name, full, unit: null, choose,
    columns: across,
    rows: Math.ceil(rows / step),
    count: Infinity,
    size: Math.max(1, Math.min(10, Math.floor(320 / across), Math.floor(300 / Math.ceil(rows / step)))),
    at: (r, c) => at(r * step, c * step),
    place: (r) => r * step,
    label: (r, c) => `row ${r * step}, column ${c * step}`,
  });
}

function heatMap({ name, full, unit, choose, columns, rows, count, size, at, place, label }) {
  const ratio = window.devicePixelRatio || 1;
  const canvas = element("canvas", { role: "img" });
  canvas.width = columns * size * ratio;
  canvas.height = rows * size * ratio;
  canvas.style.width = `${columns * size}px`;
  const drawing = canvas.getContext("2d");
  drawing.scale(ratio, ratio);
  let low = Infinity;
  let high = -Infinity;
  let bad = 0;
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns && r * columns + c < count; c++) {
      const x = at(r, c);
      if (Number.isFinite(x)) {
        low = Math.min(low, x);
        high = Math.max(high, x);
      } else bad += 1;
      drawing.fillStyle = colour(x, full);
      drawing.fillRect(c * size, r * size, size - (size > 6 ? 1 : 0), size - (size > 6 ? 1 : 0));
      if (place(r, c) === unit && unit !== null) {
        drawing.strokeStyle = DARK.matches ? "#fff" : "#000";
        drawing.lineWidth = 2;
        drawing.strokeRect(c * size + 1, r * size + 1, size - 3, size - 3);
      }
    }
  }
  const range = high >= low ? `from ${written(low)} to ${written(high)}` : "none finite";
  canvas.setAttribute("aria-label", `${name}: ${range}${bad ? `, ${bad} not finite` : ""}`);
  const rest = `±${written(full)}`;
  const readout = element("div", { class: "scale" }, rest);
  const under = (event) => {
    const area = canvas.getBoundingClientRect();
    const c = Math.floor(((event.clientX - area.left) / area.width) * columns);
    const r = Math.floor(((event.clientY - area.top) / area.height) * rows);
    const inside = r >= 0 && c >= 0 && r < rows && c < columns && r * columns + c < count;
    return inside ? [r, c] : null;
  };
  const tell = (event) => {
    const found = under(event);
    readout.textContent = found ? `${label(...found)}: ${written(at(...found), 6)}` : rest;
  };
  canvas.addEventListener("pointermove", tell);
  canvas.addEventListener("pointerdown", tell);
  canvas.addEventListener("pointerleave", () => { readout.textContent = rest; });
  canvas.addEventListener("click", (event) => {
    const found = under(event);
    if (found && choose) choose(place(...found));
  });
  return element("div", {}, canvas, readout);
}

/* What a step adds to a parameter's gradient; with `since`, the sum of those steps. */
function addsView(adds, t, since, options) {
  const left = rowOf(adds.left, t);
  if (adds.tokens !== null) {
    const token = rowOf(adds.tokens, t)[0];
    const where = adds.name.startsWith("embedding") ? "row" : "column";
    const head = element("div", { class: "scale" }, `to ${where} ${token} alone${options.token ? ` (${options.token})` : ""}`);
    return element("div", {}, head, vectorView(left, { ...options, unit: null }));
  }
  const steps = since ?? [t];
  if (adds.right === null) {
    const sum = new Float64Array(left.length);
    for (const s of steps) rowOf(adds.left, s).forEach((x, k) => { sum[k] += x; });
    return vectorView(sum, { ...options, unit: null });
  }
  const [rows, columns] = adds.shape;
  // The column of the matrix left rightᵀ that a parameter's entry is in: with heads, its block's.
  const from = (r, c) => (adds.heads === 1 ? c : columns * (Math.floor(r / columns) % adds.heads) + c);
  const line = rows === 1 || columns === 1;
  const alone = { ...options, unit: null, labels: null, what: rows === 1 ? "column" : "row" };
  if (steps.length === 1) {
    const right = rowOf(adds.right, t);
    if (rows * columns === 1) {
      const [a, b] = [left[0], right[0]];
      const line = element("div", { class: "numbers" });
      const sum = element("span", {}, written(a * b));
      sum.style.background = colour(a * b, Math.abs(a * b));
      sum.style.color = ink(a * b, Math.abs(a * b));
      line.append(sum, element("span", { class: "worked" }, `= ${written(a)} · ${b < 0 ? `(${written(b)})` : written(b)}`));
      return line;
    }
    if (line) return vectorView(Float64Array.from({ length: rows * columns }, (_, k) => (rows === 1 ? left[0] * right[k] : left[k] * right[from(k, 0)])), alone);
    return matrixView(rows, columns, (r, c) => left[r] * right[from(r, c)], options);
  }
  if (rows * columns * steps.length > MOST_SUMMED) {
    return element("div", { class: "scale" }, "too large to be summed here");
  }
  const sum = new Float64Array(rows * columns);
  for (const s of steps) {
    const [a, b] = [rowOf(adds.left, s), rowOf(adds.right, s)];
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) sum[r * columns + c] += a[r] * b[from(r, c)];
    }
  }
  if (line) return vectorView(sum, alone);
  return matrixView(rows, columns, (r, c) => sum[r * columns + c], options);
}
