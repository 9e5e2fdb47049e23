
"use strict";

// Every script of a page adds to this object: a page from disk cannot import modules.
const catdog = {};

catdog.byId = (id) => document.getElementById(id);

/** What the template has for the scripts; the block's text is let go. */
catdog.data = JSON.parse(catdog.byId("data").textContent);
catdog.byId("data").remove();

/** An element; children that are strings become text, never markup. */
catdog.make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

catdog.count = (number) => number.toLocaleString("en");
catdog.fileName = (path) => path.slice(path.lastIndexOf("/") + 1) || path;
catdog.labelOf = (item) => (item.error ? "failed" : item.label);

/** "1 image", "1,200 images". */
catdog.plural = (number, what) => `${catdog.count(number)} ${what}${number === 1 ? "" : "s"}`;

/** A function that has `draw` called in the next frame: once, however often it is called. */
catdog.inNextFrame = (draw) => {
  let frame = 0;
  return () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
};

/** Rows of name, a bar for a share in [0, 1] in its kind's colour, and the share or another text. */
catdog.bars = (rows) => {
  const { make } = catdog;
  const cells = rows.flatMap(([name, share, kind, text = share.toFixed(4)]) => {
    const fill = make("div");
    fill.style.width = `${100 * share}%`;
    return [
      make("span", {}, name),
      make("div", { class: `track ${kind}` }, fill),
      make("span", { class: "number" }, text),
    ];
  });
  return make("div", { class: "bars" }, ...cells);
};

/** Lines of comma-separated values; what a spreadsheet would run as a formula becomes text. */
catdog.csv = (rows) =>
  rows.map((cells) => cells.map((cell) => {
    const text = typeof cell === "string" ? cell.replace(/^[=+\-@\t\r]/, "'$&") : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",") + "\r\n").join("");

/** Have the browser save a text as a file. */
catdog.download = (name, type, text) => {
  const href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  catdog.make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
};
