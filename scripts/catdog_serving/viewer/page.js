
"use strict";

const byId = (id) => document.getElementById(id);

/** The value of a JSON block; the block's text is let go. */
function readBlock(name) {
  const block = byId(`data-${name}`);
  const value = JSON.parse(block.textContent);
  block.remove();
  return value;
}

/** An element; children that are strings become text, never markup. */
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const count = (number) => number.toLocaleString("en");
const decimal = (number) => number.toFixed(4);
const fileName = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

/** "1 image", "1,200 images". */
const plural = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

/** Rows of name, a bar for a share in [0, 1] in its kind's colour, and the share or another text. */
function bars(rows) {
  const cells = rows.flatMap(([name, share, kind, text = decimal(share)]) => {
    const fill = make("div");
    fill.style.width = `${100 * share}%`;
    return [
      make("span", {}, name),
      make("div", { class: `track ${kind}` }, fill),
      make("span", { class: "number" }, text),
    ];
  });
  return make("div", { class: "bars" }, ...cells);
}
