/** Elements. Text always goes in as text, never as markup: payloads are anybody's. */

const SVG = "http://www.w3.org/2000/svg";

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Touches the page only where something is different. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A list of rows that are made once and used again: gives `parent` exactly `items.length` rows. */
export function updateRows(parent, items, make, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, index) => update(parent.children[index], item, index));
}

/** A small picture of a series: a line with its area below. */
export class Sparkline {
  #width;
  #height;
  #line = svg("path", { class: "line" });
  #area = svg("path", { class: "area" });

  constructor(width, height, name = "sparkline") {
    this.#width = width;
    this.#height = height;
    this.element = svg(
      "svg",
      { class: name, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      this.#area,
      this.#line,
    );
  }

  /** The newest value is at the right; there is room for `places` of them. */
  draw(values, { low = Math.min(...values), high = Math.max(...values), places = values.length } = {}) {
    if (values.length < 2) return;
    const [width, height] = [this.#width, this.#height];
    const step = width / (places - 1);
    const x = (index) => (width - (values.length - 1 - index) * step).toFixed(1);
    const y = (value) => (height - 1 - ((value - low) / (high - low || 1)) * (height - 2)).toFixed(1);
    const path = values.map((value, index) => `${index ? "L" : "M"}${x(index)} ${y(value)}`).join("");
    this.#line.setAttribute("d", path);
    this.#area.setAttribute("d", `${path}L${width} ${height}L${x(0)} ${height}Z`);
  }
}
