/* Where the walk through time is, and what the page shows there. */

const byId = (id) => document.getElementById(id);
const top_ = DATA.layers.length - 1;
const state = { layer: top_, pass: "forward", t: 0, row: null, unit: 0, numbers: false, sums: false, timer: null };

function currentLayer() { return DATA.layers[state.layer]; }

/* Steps in the order in which the layer reads them. */
function stepAt(position) {
  const n = DATA.shown;
  const forward = position < n;
  const read = forward ? position : 2 * n - 1 - position;
  return { pass: forward ? "forward" : "backward", t: currentLayer().reverse ? n - 1 - read : read };
}

function position() {
  const n = DATA.shown;
  const read = currentLayer().reverse ? n - 1 - state.t : state.t;
  return state.pass === "forward" ? read : 2 * n - 1 - read;
}

function go(to) {
  Object.assign(state, stepAt(Math.max(0, Math.min(2 * DATA.shown - 1, to))));
  render();
}

/* The rows of the current step: those of the layer, and of the output above it or below. */
function rowsNow() {
  const layer = currentLayer();
  const isTop = layer.layer === DATA.layers[top_].layer;
  const here = !DATA.output.last || state.t + DATA.first === DATA.steps - 1;
  const output = isTop && here ? outputRows() : [];
  const rows = layer[state.pass].rows.map((row) => ({ ...row, kind: "vector" }));
  if (state.pass === "forward") return [...rows, ...output];
  const [dy, ...outputAdds] = output;
  const offset = layer.backward.lines.length;
  const adds = layer.adds.map((adds, k) => ({
    name: addsName(adds.text), group: "adds to the gradients", note: adds.name, kind: "adds", adds, line: offset + k,
  }));
  // A projection gets shares of its gradient on several ways.
  const taken = new Set();
  for (const row of adds) {
    while (taken.has(row.name)) row.name += "′";
    taken.add(row.name);
  }
  return [...(dy ? [dy] : []), ...rows, ...adds, ...outputAdds];
}

function addsName(text) { return text.split(" += ")[0]; }

function outputRows() {
  const output = DATA.output;
  const at = output.last ? 0 : state.t;
  const offset = linesNow().layerLines;
  if (state.pass === "forward") {
    const rows = [{ name: "y", array: output.y, group: "output", kind: "output", at, line: output.readout ? offset : null,
      note: output.chosen === null ? "" : `the largest of ${output.size}` }];
    if (output.probabilities !== null) rows.push({ name: "p", array: output.probabilities, group: "output", kind: "output", at, line: null, note: "probabilities, softmax of y" });
    if (output.target !== null) rows.push({ name: "target", array: output.target, group: "output", kind: output.classes ? "class" : "output", at, line: null, note: "" });
    if (output.losses !== null) rows.push({ name: "loss", array: output.losses, group: "output", kind: "output", at, line: null, note: `what this step adds to the loss, ${written(Number(DATA.value))}`, plain: true });
    return rows;
  }
  const rows = [{ name: "dy", array: output.dy, group: "output", kind: "output", at, line: null, note: `∂L/∂y(t)${output.chosen === null ? "" : `, of the ${DATA.arrays[output.dy].width} outputs shown`}` }];
  output.adds.forEach((adds, k) => rows.push({ name: addsName(adds.text), group: "adds to the gradients", note: adds.name, kind: "adds", adds, at: adds.name.startsWith("readout") ? at : state.t, line: offset + k }));
  return rows;
}

/* The lines of equations of the current pass: the layer's, then those of the gradients, then the output's. */
function linesNow() {
  const layer = currentLayer();
  const isTop = layer.layer === DATA.layers[top_].layer;
  const plain = (text) => ({ parts: [text], number: null, cites: [] });
  const lines = [...layer[state.pass].lines];
  if (state.pass === "backward") lines.push(...layer.adds.map((adds) => plain(adds.text)));
  const layerLines = lines.length;
  if (isTop) {
    if (state.pass === "forward" && DATA.output.readout) lines.push(plain(DATA.output.readout));
    if (state.pass === "backward") lines.push(...DATA.output.adds.map((adds) => plain(adds.text)));
  }
  lines.backward = state.pass === "backward";
  return { lines, layerLines };
}

function render() {
  const layer = currentLayer();
  document.body.className = state.pass;
  const rows = rowsNow();
  if (!rows.some((row) => row.name === state.row)) {
    state.row = (rows.find((row) => row.name === (state.pass === "forward" ? "h" : "dh")) ?? rows[0]).name;
  }
  renderOverview();
  renderDiagram();
  const slider = byId("slider");
  slider.value = String(position());
  const step = state.t + DATA.first;
  slider.setAttribute("aria-valuetext", `${state.pass} pass, step ${step}, ${layer.name}`);
  byId("layer").value = String(state.layer);
  byId("status").innerHTML = statusMarkup(layer, step);
  renderEquations(rows);
  renderValues(rows);
}

function statusMarkup(layer, step) {
  const last = DATA.steps - 1;
  const head = `<b>${state.pass === "forward" ? "Forward" : "Backward"}, step ${step}</b> of 0…${last}${DATA.layers.length > 1 ? `, ${layer.name}` : ""}`;
  const token = DATA.tokens ? `, token “${escaped(shortened(DATA.tokens[state.t], 24))}”` : "";
  if (state.pass === "forward") return `${head}${token}.`;
  const [size, passed] = [numbersOf(layer.norms)[step], numbersOf(layer.passed)[step]];
  const factor = size > 0 ? `, ${written(passed / size, 3)} times that` : "";
  const to = layer.reverse ? step + 1 : step - 1;
  const goal = to < 0 || to > last ? "the initial state" : `step ${to}`;
  let text = `${head}${token}. ‖dh‖ is ${written(size)}; what it passes to ${goal} has norm ${written(passed)}${factor}.`;
  if (DATA.window !== null) {
    const [from, end] = reachOf(layer, step);
    const shown = from === end ? `step ${from}` : `steps ${from}–${end}`;
    text += ` Window ${DATA.window}: the losses of ${shown} reach this state; the others are cut off.`;
  }
  return text;
}

function renderOverview() {
  const home = byId("overview");
  const width = Math.max(240, Math.floor(home.clientWidth || 600));
  const { text, step } = overviewMarkup(state, width);
  home.innerHTML = text + (DATA.layers.length > 1 ? `<p class="quiet" style="padding:0 .6rem .3rem">${legendMarkup()}</p>` : "");
  home.onclick = (event) => {
    if (!step) return;
    const t = step(event.clientX - home.getBoundingClientRect().left) - DATA.first;
    if (t < 0 || t >= DATA.shown) return;
    Object.assign(state, { pass: "backward", t });
    render();
  };
}

function renderDiagram() {
  const home = byId("steps");
  const { text, labels, pitch } = diagramMarkup(state);
  byId("labels").innerHTML = labels;
  const before = home.scrollLeft;
  home.innerHTML = text;
  home.scrollLeft = before;
  const left = GUTTER + state.t * pitch;
  if (left < home.scrollLeft || left + 2 * pitch > home.scrollLeft + home.clientWidth) {
    home.scrollLeft = left - home.clientWidth / 2;
  }
}

function renderEquations(rows) {
  const home = byId("equations");
  const layer = currentLayer();
  const { lines } = linesNow();
  const row = rows.find((one) => one.name === state.row);
  const now = row?.line ?? -1;
  const widest = DATA.arrays[rowNamed(layer, "forward", "h").array].width;
  const options = { now, cited: [], t: state.t, unit: state.unit, widest };
  home.replaceChildren(equationList(lines, options));
  if (state.pass === "backward") {
    const cites = now >= 0 ? lines[now].cites : [];
    const forward = [...layer.forward.lines];
    home.append(element("h3", {}, "Forward, for comparison"));
    home.append(equationList(forward, { ...options, now: -1, cited: cites }));
  }
  const active = home.querySelector("li.now");
  const frame = home.parentElement;
  if (active && frame.scrollHeight > frame.clientHeight) {
    const [a, f] = [active.getBoundingClientRect(), frame.getBoundingClientRect()];
    if (a.top < f.top || a.bottom > f.bottom) frame.scrollTop += a.top - f.top - 60;
  }
}

function choose(unit) {
  const widest = DATA.arrays[rowNamed(currentLayer(), "forward", "h").array].width;
  state.unit = Math.max(0, Math.min(widest - 1, unit || 0));
  byId("unit").value = String(state.unit);
  render();
}

function renderValues(rows) {
  const home = byId("values");
  const focused = document.activeElement?.dataset?.row;
  home.replaceChildren();
  let group = null;
  const { lines } = linesNow();
  for (const row of rows) {
    if (row.group !== group) {
      group = row.group;
      const title = element("h3", {}, group === "cut" ? "cut off by the window" : group);
      home.append(title);
      if (group === "adds to the gradients") home.append(sumsChoice());
    }
    home.append(rowElement(row, lines));
  }
  if (focused) [...home.querySelectorAll("button[data-row]")].find((one) => one.dataset.row === focused)?.focus({ preventScroll: true });
}

function sumsChoice() {
  const box = element("input", { type: "checkbox", id: "sums" });
  box.checked = state.sums;
  box.addEventListener("change", () => { state.sums = box.checked; render(); byId("sums").focus(); });
  return element("p", { class: "quiet" }, element("label", {}, box, " the sum of the steps so far, instead of this step alone"));
}

/* The steps that a sum so far has, on the way back. */
function soFar() {
  const all = Array.from({ length: DATA.shown }, (_, t) => t);
  return all.filter((t) => (currentLayer().reverse ? t <= state.t : t >= state.t));
}

function rowElement(row, lines) {
  const now = row.name === state.row;
  const label = element("button", { type: "button", "data-row": row.name, "aria-pressed": String(now) });
  label.innerHTML = nameMarkup(row.name);
  label.addEventListener("click", () => { state.row = row.name; render(); });
  const at = row.at ?? state.t;
  const options = { name: row.name, unit: state.unit, asNumbers: state.numbers, choose };
  let view;
  if (row.kind === "adds") {
    const sums = state.sums && row.at === undefined ? soFar() : null;
    view = addsView(row.adds, at, sums, { ...options, choose: null, token: DATA.tokens?.[state.t] });
  } else if (row.kind === "class") {
    const k = rowOf(row.array, at)[0];
    view = element("div", { class: "numbers" }, element("span", {}, k < 0 ? "none (padding)" : DATA.output.names[k] ?? String(k)));
  } else if (DATA.arrays[row.array].kind === "i4") {
    view = element("div", { class: "numbers" }, element("span", {}, `${rowOf(row.array, at)[0]}${DATA.tokens ? `: “${DATA.tokens[state.t]}”` : ""}`));
  } else {
    const values = rowOf(row.array, at);
    const labels = row.kind === "output" && !row.plain ? outputLabels(at, values.length) : null;
    const scale = state.pass === "forward" && row.kind === "vector" ? largest(numbersOf(row.array)) : undefined;
    view = vectorView(values, { ...options, labels, scale, unit: row.kind === "output" || row.name === "x" ? null : state.unit,
      asNumbers: state.numbers || (row.kind === "output" && labels !== null) });
  }
  const shown = element("div", { class: "shown" }, view);
  const line = element("div", { class: `row${now ? " now" : ""}${row.group === "cut" ? " cut" : ""}`, "data-name": row.name }, label, shown);
  if (row.note) line.append(element("div", { class: "note" }, row.note));
  if (now && row.line !== null && lines[row.line]) {
    const inline = element("div", { class: "inline" });
    inline.innerHTML = lineMarkup(lines[row.line]);
    const worked = workedOut(lines[row.line], state.t, state.unit);
    const wide = DATA.arrays[rowNamed(currentLayer(), "forward", "h").array].width > 1;
    if (worked) inline.append(element("div", { class: "worked" }, `${wide ? `unit ${state.unit}: ` : ""}${worked}`));
    line.append(inline);
  }
  return line;
}

/* The names of the outputs shown; null where they have none. */
function outputLabels(at, count) {
  const { chosen, names } = DATA.output;
  const numbers = chosen === null ? [...Array(count).keys()] : [...rowOf(chosen, at)];
  if (chosen === null && !Object.keys(names).length) return null;
  return numbers.map((k) => names[k] ?? String(k));
}

function move(by) {
  const rows = rowsNow();
  const at = rows.findIndex((row) => row.name === state.row);
  state.row = rows[Math.max(0, Math.min(rows.length - 1, at + by))].name;
  render();
  const row = document.querySelector(".row.now");
  row?.scrollIntoView({ block: "nearest" });
  row?.querySelector("button").focus({ preventScroll: true });
}

function play(on) {
  if (state.timer) clearInterval(state.timer);
  state.timer = on ? setInterval(() => {
    if (position() >= 2 * DATA.shown - 1) play(false);
    else go(position() + 1);
  }, 600) : null;
  byId("play").setAttribute("aria-pressed", String(on));
  byId("play").textContent = on ? "❚❚" : "▶▶";
  byId("play").setAttribute("aria-label", on ? "Stop" : "Play");
}

function chooseLayer(k) {
  const t = state.t;
  state.layer = k;
  state.t = t;
  render();
}

const KEYS = {
  ArrowRight: () => go(position() + 1),
  ArrowLeft: () => go(position() - 1),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  Home: () => go(0),
  End: () => go(2 * DATA.shown - 1),
  b: () => { state.pass = state.pass === "forward" ? "backward" : "forward"; render(); },
  l: () => chooseLayer((state.layer + 1) % DATA.layers.length),
  n: () => byId("numbers").click(),
  " ": () => play(!state.timer),
};

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = target.matches("select, input[type=number]");
  const pressing = event.key === " " && target.matches("button, input, summary, select");
  if (typing || pressing || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function begin() {
  byId("title").textContent = DATA.title;
  byId("network").textContent = DATA.network + (DATA.value === null ? "" : `; loss ${written(Number(DATA.value))}`);
  DATA.messages.forEach((text) => byId("messages").append(element("li", {}, text)));
  DATA.notes.forEach((text) => byId("notes").append(element("li", {}, text)));
  byId("slider").max = String(2 * DATA.shown - 1);
  byId("slider").addEventListener("input", (event) => go(Number(event.target.value)));
  DATA.layers.forEach((layer, k) => byId("layer").append(element("option", { value: String(k) }, layer.name)));
  byId("layer-choice").hidden = DATA.layers.length < 2;
  byId("layer").addEventListener("change", (event) => chooseLayer(Number(event.target.value)));
  byId("unit").max = String(DATA.arrays[rowNamed(DATA.layers[0], "forward", "h").array].width - 1);
  byId("unit").addEventListener("input", (event) => choose(Number(event.target.value)));
  byId("numbers").addEventListener("click", () => {
    state.numbers = !state.numbers;
    byId("numbers").setAttribute("aria-pressed", String(state.numbers));
    render();
  });
  byId("start").addEventListener("click", () => go(0));
  byId("end").addEventListener("click", () => go(2 * DATA.shown - 1));
  byId("back").addEventListener("click", () => go(position() - 1));
  byId("next").addEventListener("click", () => go(position() + 1));
  byId("play").addEventListener("click", () => play(!state.timer));
  byId("diagram").addEventListener("click", (event) => {
    const { t, layer } = event.target.dataset ?? {};
    if (t === undefined || Number(t) >= DATA.shown) return;
    if (layer !== undefined) state.layer = Number(layer);
    state.t = Number(t);
    render();
  });
  DARK.addEventListener("change", render);
  window.addEventListener("resize", renderOverview);
  go(0);
}

begin();
