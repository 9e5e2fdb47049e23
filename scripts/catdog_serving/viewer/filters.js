
// Which items a gallery shows, and in what order: chips for the labels, a search, an order.

const LABELS = ["cat", "dog", "neither"];

class Filters {
  #items; // the least certain first, then the failed
  #gallery;
  #label = "all";
  #orders;

  /** Shows all `items` at once; the controls are #chips, #search and #order, the number #found. */
  constructor(items, gallery) {
    this.#items = items;
    this.#gallery = gallery;
    this.#orders = { least: items };
    for (const item of items) item.searched = item.path.toLowerCase();
    byId("search").addEventListener("input", () => this.#update());
    byId("order").addEventListener("change", () => this.#update());
    this.#showChips();
    this.#update();
  }

  /** Show what label, search and order ask for. */
  #update() {
    const query = byId("search").value.toLowerCase();
    const isShown = (item) =>
      (this.#label === "all" || labelOf(item) === this.#label) && item.searched.includes(query);
    const shown = this.#ordered(byId("order").value).filter(isShown);
    this.#gallery.show(shown);
    byId("found").textContent = `${count(shown.length)} of ${count(this.#items.length)} shown`;
  }

  #ordered(order) {
    if (!this.#orders[order]) {
      const collator = new Intl.Collator(undefined, { numeric: true });
      this.#orders[order] = [...this.#items].sort(
        order === "name"
          ? (a, b) => collator.compare(a.path, b.path)
          : (a, b) => (b.certainty ?? -1) - (a.certainty ?? -1),
      );
    }
    return this.#orders[order];
  }

  #showChips() {
    const counts = { all: this.#items.length };
    for (const item of this.#items) counts[labelOf(item)] = (counts[labelOf(item)] ?? 0) + 1;
    const chips = ["all", ...LABELS, "failed"].map((label) => {
      const attributes = { type: "button", class: label, "aria-pressed": label === "all" };
      const number = make("span", { class: "muted" }, count(counts[label] ?? 0));
      const chip = make("button", attributes, label, " ", number);
      chip.addEventListener("click", () => {
        this.#label = label;
        for (const other of chips) other.setAttribute("aria-pressed", other === chip);
        this.#update();
      });
      return chip;
    });
    byId("chips").append(...chips);
  }
}
