/* The page's data, and how numbers are written. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const KINDS = { f4: Float32Array, f8: Float64Array, i4: Int32Array };
const DECODED = new Map();

/* The numbers of an array, decoded when they are first needed. */
function numbersOf(place) {
  if (!DECODED.has(place)) {
    const { kind, data } = DATA.arrays[place];
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    DECODED.set(place, new KINDS[kind](bytes.buffer));
  }
  return DECODED.get(place);
}

/* Row t of an array (T, K). */
function rowOf(place, t) {
  const width = DATA.arrays[place].width;
  return numbersOf(place).subarray(t * width, (t + 1) * width);
}

/* Four significant digits, or fewer. */
function written(x, digits = 4) {
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  let text;
  if (size >= 1e5 || size < 1e-3) {
    text = x.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  } else {
    text = x.toPrecision(digits);
    if (text.includes("e")) text = String(Math.round(x));
    if (text.includes(".")) text = text.replace(/\.?0+$/, "");
  }
  return text.replace(/-/g, "−");
}

function largest(values) {
  let most = 0;
  for (const x of values) {
    if (Number.isFinite(x) && Math.abs(x) > most) most = Math.abs(x);
  }
  return most;
}

function norm(values) {
  const scale = largest(values) || 1;
  let sum = 0;
  for (const x of values) sum += (x / scale) ** 2;
  return scale * Math.sqrt(sum);
}

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}

/* A name as mathematics: u_r(t) with its r below the line. */
function nameMarkup(name) {
  const [, base, below, rest] = /^([^_([]+)(?:_([^([]+))?(.*)$/.exec(name) || [null, name, "", ""];
  const sub = below ? `<sub>${escaped(below)}</sub>` : "";
  return escaped(base) + sub + escaped(rest).replace(/-/g, "−");
}

/* Colours: blue for negative numbers, orange for positive ones; grey is zero. */

const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const PALETTES = {
  light: { zero: [240, 241, 243], plus: [196, 94, 10], minus: [25, 98, 172] },
  dark: { zero: [44, 48, 56], plus: [250, 163, 84], minus: [98, 174, 245] },
};

function colour(x, scale) {
  if (!Number.isFinite(x)) return "rgb(214 0 130)";
  const { zero, plus, minus } = PALETTES[DARK.matches ? "dark" : "light"];
  const share = scale > 0 ? Math.min(1, Math.abs(x) / scale) : 0;
  const end = x < 0 ? minus : plus;
  return `rgb(${zero.map((z, k) => Math.round(z + (end[k] - z) * share)).join(" ")})`;
}

/* The colour of text on `colour`. */
function ink(x, scale) {
  if (!Number.isFinite(x)) return "#fff";
  const strong = scale > 0 && Math.abs(x) / scale > 0.55;
  return DARK.matches ? (strong ? "#101216" : "#f2f3f5") : strong ? "#fff" : "#1b1e24";
}
