
// Which items a gallery shows, and in what order: chips for the labels, a search, an order; and
// the list of those that were marked as wrong.
{
  const { byId, count, csv, labelOf } = catdog;
  const byName = new Intl.Collator(undefined, { numeric: true });

  catdog.Filters = class {
    #items;
    #gallery;
    #orders = {}; // the items in each order that was asked for

    /** Shows all `items` at once; the controls are those of viewer.html. */
    constructor(items, gallery) {
      this.#items = items;
      this.#gallery = gallery;
      byId("search").addEventListener("input", () => this.update(true));
      byId("order").addEventListener("change", () => this.update(true));
      byId("export").addEventListener("click", () => this.#export());
      const chips = [...byId("chips").children];
      for (const chip of chips) {
        chip.addEventListener("click", () => {
          for (const other of chips) other.ariaPressed = other === chip;
          this.update(true);
        });
      }
      this.update(true);
    }

    /** There are others now. */
    changed() {
      this.#orders = {};
      this.update();
    }

    /** Show what label, search and order ask for; from the first one on if they are other now. */
    update(fromFirst = false) {
      const label = byId("chips").querySelector("[aria-pressed=true]").value;
      const query = byId("search").value.toLowerCase();
      const isShown = (item) => has(item, label) && searched(item).includes(query);
      const shown = this.#ordered(byId("order").value).filter(isShown);
      if (fromFirst) this.#gallery.show(shown);
      else this.#gallery.update(shown);
      byId("found").textContent = `${count(shown.length)} of ${count(this.#items.length)} shown`;
      for (const chip of byId("chips").children) {
        chip.lastElementChild.textContent = count(this.numberOf(chip.value));
      }
      byId("export").hidden = !this.numberOf("wrong");
    }

    /** How many items a chip stands for. */
    numberOf(label) {
      return this.#items.filter((item) => has(item, label)).length;
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

    #export() {
      const columns = ["path", "label", "cat", "dog", "other"];
      const rows = this.#items.filter((item) => item.wrong)
        .map((item) => columns.map((column) => item[column]));
      catdog.download("wrong.csv", "text/csv", csv([columns, ...rows]));
    }
  };

  const has = (item, label) =>
    label === "all" || (label === "wrong" ? Boolean(item.wrong) : labelOf(item) === label);

  const searched = (item) =>
    (item.searched ??= `${item.path}\n${item.breed?.name ?? ""}`.toLowerCase());
}
