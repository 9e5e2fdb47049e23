
// One image in detail, in the dialog of viewer.html: the original beside its map, and the answer.
{
  const { bars, byId, count, fileName, make, plural } = catdog;
  const dialog = byId("detail");
  const PAUSE_MS = 200; // so long an item stays open before the whole image is looked at

  catdog.Panel = class {
    #gallery;
    #explain;
    #changed;
    #place = 0; // of the open item, or of what follows it if the filter shows it no more
    #looking = new AbortController(); // aborted when another item is opened, or none is

    /**
     * `explain(item, signal)`, if there is one, sets the item's map and box to those of the whole
     * image, and their caption. `changed(item)` is called then, and when an item was marked as wrong.
     */
    constructor(gallery, explain, changed) {
      this.#gallery = gallery;
      this.#explain = explain;
      this.#changed = changed;
      byId("close").addEventListener("click", () => dialog.close());
      byId("previous").addEventListener("click", () => this.#move(-1));
      byId("next").addEventListener("click", () => this.#move(1));
      byId("wrong").addEventListener("click", () => this.#mark());
      byId("opacity").addEventListener("input", setOpacity);
      setOpacity();
      dialog.addEventListener("keydown", (event) => {
        if (event.target.type === "range" || event.ctrlKey || event.altKey || event.metaKey) return;
        if (event.key === "ArrowLeft") this.#move(-1);
        if (event.key === "ArrowRight") this.#move(1);
        if (event.key === "w") this.#mark();
      });
      dialog.addEventListener("click", (event) => {
        if (event.target === dialog) dialog.close(); // the backdrop
      });
      dialog.addEventListener("close", () => {
        this.#looking.abort();
        const isShown = gallery.items.includes(gallery.active);
        gallery.focus(isShown ? gallery.active : this.#neighbour(1) ?? this.#neighbour(-1));
      });
    }

    /** Show an item of the gallery. */
    open(item) {
      this.#looking.abort();
      this.#looking = new AbortController();
      this.#gallery.active = item;
      this.#draw(item);
      byId("detail-body").scrollTop = 0;
      if (!dialog.open) dialog.showModal();
      if (this.#explain && !item.error && !item.explained) this.#look(item, this.#looking.signal);
    }

    #draw(item) {
      byId("detail-name").textContent = fileName(item.path);
      byId("detail-body").replaceChildren(
        ...(item.error ? failureParts(item) : answerParts(item)), fileFacts(item));
      byId("opacity").closest("label").hidden = !item.map;
      byId("wrong").hidden = Boolean(item.error);
      this.#drawPlace(item);
    }

    /** What changes when the gallery shows others, and with the mark. */
    #drawPlace(item) {
      const { items } = this.#gallery;
      const place = items.indexOf(item);
      if (place >= 0) this.#place = place;
      byId("position").textContent =
        place < 0 ? plural(items.length, "other") : `${count(place + 1)} of ${count(items.length)}`;
      byId("previous").disabled = !this.#neighbour(-1);
      byId("next").disabled = !this.#neighbour(1);
      byId("wrong").ariaPressed = Boolean(item.wrong);
    }

    /** Draw the item again when the whole image was looked at, unless another took its place. */
    async #look(item, signal) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      if (!signal.aborted) await this.#explain(item, signal);
      if (signal.aborted) return;
      this.#changed(item);
      this.#draw(item);
    }

    /** The item before the open one (-1), or after it (1). */
    #neighbour(step) {
      const { items, active } = this.#gallery;
      const place = items.indexOf(active);
      return items[place < 0 ? this.#place + Math.min(step, 0) : place + step];
    }

    #move(step) {
      const next = this.#neighbour(step);
      if (next) this.open(next);
    }

    #mark() {
      const item = this.#gallery.active;
      if (item.error) return;
      item.wrong = !item.wrong;
      this.#changed(item);
      this.#drawPlace(item);
    }
  };

  const setOpacity = () =>
    document.documentElement.style.setProperty("--opacity", byId("opacity").value / 100);

  const answerParts = (item) => {
    const breed = item.breed ? ` · ${item.breed.name} (${Math.round(100 * item.breed.probability)}%)` : "";
    const truth = item.truth ? ` · in truth ${item.truth}` : "";
    const kind = make("span", { class: "kind" }, item.label);
    const classes = item.top?.map((entry) => [entry.name, entry.probability, ""]);
    return [
      ...pair(item),
      make("p", { class: `answer ${item.label}` }, kind, breed, truth),
      bars(["cat", "dog", "other"].map((name) => [name, item[name], name])),
      ...(classes ? [make("h3", {}, "Most probable classes"), bars(classes)] : []),
    ];
  };

  /** The original, and beside it the same with map and box over it. */
  const pair = (item) => {
    if (!item.thumbnail) return [make("p", { class: "muted" }, "the image cannot be shown")];
    const figure = (kind, caption, ...over) => {
      // The file itself, if it lies beside the page and the browser knows its format.
      const image = make("img", { src: item.link ?? item.thumbnail, alt: caption });
      image.addEventListener("error", () => { image.src = item.thumbnail; }, { once: true });
      return make("figure", { class: kind },
        make("div", { class: "large" }, image, ...over), make("figcaption", {}, caption));
    };
    const figures = [figure("original", "original")];
    if (item.map) figures.push(figure("drawn", item.caption ?? "map and box", ...catdog.overlay(item)));
    return [make("div", { class: "pair" }, ...figures)];
  };

  const failureParts = (item) => [
    make("p", { class: "answer failed" }, make("span", { class: "kind" }, item.error.type)),
    make("p", {}, item.error.message),
  ];

  const fileFacts = (item) => {
    const link = { href: item.link, target: "_blank", rel: "noopener" };
    const facts = {
      Path: item.path,
      Size: item.size != null && plural(item.size, "byte"),
      Model: item.model,
      Original: item.link && make("a", link, "open the file"),
    };
    const cells = Object.entries(facts).flatMap(
      ([name, value]) => (value ? [make("dt", {}, name), make("dd", {}, value)] : []));
    return make("dl", {}, ...cells);
  };
}
