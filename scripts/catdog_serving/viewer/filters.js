
// Which items a gallery shows, and in what order: chips for the labels, a search, an order; and
// the list of those that were marked as wrong.
{
  const { byId, count, csv, labelOf, make } = catdog;
  const byName = new Intl.Collator(undefined, { numeric: true });
  const CHIPS = ["all", "cat", "dog", "neither", "failed", "wrong"];

  catdog.Filters = class {
    #items;
    #gallery;
    #label = "all";
    #orders = {};
    #numbers = {}; // of each chip, as an element

    /** Shows all `items` at once; the controls are those of viewer.html. */
    constructor(items, gallery) {
      this.#items = items;
      this.#gallery = gallery;
      byId("search").addEventListener("input", () => this.update(true));
      byId("order").addEventListener("change", () => this.update(true));
      byId("export").addEventListener("click", () => this.#export());
      this.#showChips();
      this.update(true);
    }

    /** There are others now. */
    changed() {
      this.#orders = {};
      this.update();
    }

    /** Show what label, search and order ask for; from the first one on if they are other now. */
    update(fromFirst = false) {
      const query = byId("search").value.toLowerCase();
      const isShown = (item) => this.#has(item, this.#label) && searched(item).includes(query);
      const shown = this.#ordered(byId("order").value).filter(isShown);
      if (fromFirst) this.#gallery.show(shown);
      else this.#gallery.update(shown);
      byId("found").textContent = `${count(shown.length)} of ${count(this.#items.length)} shown`;
      const counts = Object.fromEntries(CHIPS.map((label) => [label, 0]));
      for (const item of this.#items) {
        counts.all += 1;
        counts[labelOf(item)] += 1;
        if (item.wrong) counts.wrong += 1;
      }
      for (const label of CHIPS) this.#numbers[label].textContent = count(counts[label]);
      byId("export").hidden = !counts.wrong;
    }

    #has(item, label) {
      return label === "all" || (label === "wrong" ? item.wrong : labelOf(item) === label);
    }

    #ordered(order) {
      const certainty = (item) => item.certainty ?? (order === "least" ? 2 : -1); // failed: last
      const orders = {
        least: (a, b) => certainty(a) - certainty(b),
        most: (a, b) => certainty(b) - certainty(a),
        name: (a, b) => byName.compare(a.path, b.path),
      };
      if (!(order in orders)) return this.#items;
      return (this.#orders[order] ??= [...this.#items].sort(orders[order]));
    }

    #showChips() {
      const chips = CHIPS.map((label) => {
        const number = (this.#numbers[label] = make("span", { class: "muted" }));
        const attributes = { type: "button", class: label, "aria-pressed": label === "all" };
        const chip = make("button", attributes, label, " ", number);
        chip.addEventListener("click", () => {
          this.#label = label;
          for (const other of chips) other.ariaPressed = other === chip;
          this.update(true);
        });
        return chip;
      });
      byId("chips").append(...chips);
    }

    #export() {
      const columns = ["path", "label", "cat", "dog", "other"];
      const rows = this.#items.filter((item) => item.wrong)
        .map((item) => columns.map((column) => item[column]));
      catdog.download("wrong.csv", "text/csv", csv([columns, ...rows]));
    }
  };

  const searched = (item) =>
    (item.searched ??= `${item.path}\n${item.breed?.name ?? ""}`.toLowerCase());
}
