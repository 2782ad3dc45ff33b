/* Lines of equations: marked up, highlighted, and worked out for one unit. */

function lineMarkup(line) {
  let left = true;
  return line.parts.map((part) => {
    if (typeof part === "string") {
      if (part.includes("=")) left = false;
      return escaped(part).replace(/([^\W\d_]+)_(\w+)/gu, "$1<sub>$2</sub>").replace(/-/g, "−");
    }
    return `<span class="${left ? "lhs" : "name"}">${nameMarkup(part[0])}</span>`;
  }).join("");
}

/* A line with numbers in the place of names; null where no name has one. */
function workedOut(line, t, unit) {
  let any = false;
  let text = "";
  let before = "";
  for (const part of line.parts) {
    if (typeof part === "string") {
      let plain = part;
      if (before === "value") plain = plain.replace(/^\s+(?=[(\p{L}])/u, " · ").replace(/^\s+$/, " · ");
      text += plain;
      before = /[)]$/.test(plain) ? "value" : "text";
    } else {
      const row = rowOf(part[1], t);
      const x = row[Math.min(unit, row.length - 1)];
      const digits = written(x);
      const alone = text.trim() === "" || /[=(,[]\s*$/.test(text);
      text += digits.startsWith("−") && !alone ? `(${digits})` : digits;
      before = "value";
      any = true;
    }
  }
  return any ? text.replace(/ \* /g, " · ").replace(/-/g, "−") : null;
}

function equationList(lines, { now, cited, t, unit, widest }) {
  const list = element("ol", { class: "equations" });
  lines.forEach((line, k) => {
    const item = element("li");
    const of = element("div", { class: "of" });
    const text = element("span");
    text.innerHTML = lineMarkup(line);
    of.append(text);
    const marks = line.number !== null ? `(${line.number})` : line.cites.length
      ? `${lines.backward ? "from " : ""}${line.cites.map((n) => `(${n})`).join(", ")}` : "";
    if (marks) of.append(element("span", { class: "number" }, marks));
    item.append(of);
    if (k === now) {
      item.className = "now";
      item.setAttribute("aria-current", "true");
      const worked = workedOut(line, t, unit);
      if (worked) item.append(element("div", { class: "worked" }, `${widest > 1 ? `unit ${unit}: ` : ""}${worked}`));
    } else if (cited.some((n) => n === line.number || (line.number === null && line.cites.includes(n)))) {
      item.className = "cited";
    }
    list.append(item);
  });
  return list;
}
