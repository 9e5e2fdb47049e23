
// One image in detail, in the dialog of panel.html; the arrow keys go from image to image.

class Panel {
  #dialog = byId("detail");
  #body = byId("detail-body");
  #gallery;
  #style;

  /** `style` is how maps and boxes are drawn. */
  constructor(gallery, style) {
    this.#gallery = gallery;
    this.#style = style;
    const dialog = this.#dialog;
    byId("close").addEventListener("click", () => dialog.close());
    byId("previous").addEventListener("click", () => this.#move(-1));
    byId("next").addEventListener("click", () => this.#move(1));
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.#move(-1);
      if (event.key === "ArrowRight") this.#move(1);
    });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // the backdrop
    });
    dialog.addEventListener("close", () => gallery.focus(gallery.active));
  }

  /** Show the image at a place of the gallery. */
  open(place) {
    const { items } = this.#gallery;
    const item = items[place];
    this.#gallery.active = place;
    byId("detail-name").textContent = fileName(item.path);
    this.#body.replaceChildren(
      ...(item.error ? failureParts(item) : answerParts(item, this.#style)), fileFacts(item));
    this.#body.scrollTop = 0;
    byId("position").textContent = `${count(place + 1)} of ${count(items.length)}`;
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === items.length - 1;
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  #move(step) {
    const place = this.#gallery.active + step;
    if (place >= 0 && place < this.#gallery.items.length) this.open(place);
  }
}

function answerParts(item, style) {
  return [
    ...largeImage(item, style),
    make(
      "p",
      { class: `answer ${item.label}` },
      make("span", { class: "kind" }, item.label),
      item.breed ? ` · ${item.breed.name} (${Math.round(100 * item.breed.probability)}%)` : "",
    ),
    bars(["cat", "dog", "other"].map((kind) => [kind, item[kind], kind])),
    make(
      "div",
      {},
      make("h3", {}, "Most probable classes"),
      bars(item.top.map((entry) => [entry.name, entry.probability, ""])),
    ),
  ];
}

/** With map and box over it, and a box to tick that shows and hides them: fingers cannot hover. */
function largeImage(item, style) {
  if (!item.thumbnail) return [];
  const image = make("img", { src: item.thumbnail, alt: "" });
  const overlay = overlayOf(item, style);
  const large = make("div", { class: "large" }, image, overlay ?? "");
  if (!overlay) return [large];
  const box = make("input", { type: "checkbox", checked: "" });
  box.addEventListener("change", () => { overlay.hidden = !box.checked; });
  return [large, make("label", { class: "switch" }, box, " where it is: map and box")];
}

function failureParts(item) {
  return [
    make("p", { class: "answer failed" }, make("span", { class: "kind" }, item.error.type)),
    make("p", {}, item.error.message),
  ];
}

function fileFacts(item) {
  const facts = make("dl", {}, make("dt", {}, "Path"), make("dd", {}, item.path));
  if (item.size !== null) {
    facts.append(make("dt", {}, "Size"), make("dd", {}, plural(item.size, "byte")));
  }
  if (item.link) {
    const link = originalLink(item, "open the file");
    facts.append(make("dt", {}, "Original"), make("dd", {}, link));
  }
  return facts;
}
