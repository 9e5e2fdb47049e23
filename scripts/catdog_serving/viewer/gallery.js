
// A gallery of any length: only the cards near the window are in the document.
{
  const { byId, make } = catdog;
  const GAP = 8; // px, between cards, as in viewer.css
  const CARD_TEXT = 47; // px, the two lines below a card's image
  const OVERSCAN = 400; // px above and below the window that are drawn too

  catdog.Gallery = class {
    #element = byId("gallery");
    #toolbar = byId("toolbar");
    #cells = new Map(); // item -> its list item in the document

    items = [];
    active = null; // the item that Tab and the arrow keys go from

    /** `open(item)` is called when a card is pressed; the toolbar covers the window's top. */
    constructor(open) {
      this.#element.addEventListener("click", (event) => {
        const card = event.target.closest("button");
        if (card) open(card.item);
      });
      this.#element.addEventListener("keydown", (event) => this.#onKey(event));
      const renderSoon = catdog.inNextFrame(() => this.#render());
      window.addEventListener("scroll", renderSoon);
      window.addEventListener("resize", renderSoon);
      new ResizeObserver(renderSoon).observe(this.#element);
    }

    /** Show other items, from the first one on. */
    show(items) {
      this.active = items[0];
      const start = this.#element.offsetTop - this.#toolbar.offsetHeight;
      if (window.scrollY > start) window.scrollTo(0, start);
      this.update(items);
    }

    /** Show these items and stay where we are. */
    update(items) {
      this.items = items;
      this.#render();
    }

    /** Take an item's card away; if it is near, the next update draws it anew. */
    forget(item) {
      this.#cells.get(item)?.remove();
      this.#cells.delete(item);
    }

    /** Bring an item's card into the window and focus it. */
    focus(item) {
      this.active = item;
      const { columns, rowHeight } = this.#grid();
      const row = Math.floor(Math.max(0, this.items.indexOf(item)) / columns);
      const top = this.#element.getBoundingClientRect().top + row * rowHeight;
      const covered = this.#toolbar.offsetHeight;
      const excess = top + rowHeight - window.innerHeight;
      if (top < covered) window.scrollBy(0, top - covered);
      else if (excess > 0) window.scrollBy(0, excess);
      this.#render();
      this.#cells.get(item)?.firstChild.focus({ preventScroll: true });
    }

    #grid() {
      const tracks = getComputedStyle(this.#element).gridTemplateColumns.split(" ");
      const cardHeight = Math.round(parseFloat(tracks[0]) || 100) + CARD_TEXT;
      return { columns: tracks.length, cardHeight, rowHeight: cardHeight + GAP };
    }

    #render() {
      const { columns, cardHeight, rowHeight } = this.#grid();
      const rows = Math.ceil(this.items.length / columns);
      const above = -this.#element.getBoundingClientRect().top;
      const visible = Math.floor((above - OVERSCAN) / rowHeight);
      const firstRow = Math.max(0, Math.min(visible, rows - 1));
      const endRow = Math.ceil((above + window.innerHeight + OVERSCAN) / rowHeight);
      const first = firstRow * columns;
      const near = this.items.slice(first, Math.max(1, endRow) * columns);
      Object.assign(this.#element.style, {
        gridAutoRows: `${cardHeight}px`,
        paddingTop: `${firstRow * rowHeight}px`,
        paddingBottom: `${Math.max(0, rows - Math.max(1, endRow)) * rowHeight}px`,
      });
      const kept = new Set(near);
      for (const item of this.#cells.keys()) if (!kept.has(item)) this.forget(item);
      // Tab and screen readers follow the document's order, so each cell is put before the next.
      const reachable = kept.has(this.active) ? this.active : near[0];
      let following = null;
      for (let i = near.length - 1; i >= 0; i--) {
        const cell = this.#cell(near[i]);
        if (!cell.isConnected || cell.nextSibling !== following) {
          this.#element.insertBefore(cell, following);
        }
        cell.ariaSetSize = this.items.length;
        cell.ariaPosInSet = first + i + 1;
        cell.firstChild.tabIndex = near[i] === reachable ? 0 : -1;
        following = cell;
      }
    }

    #cell(item) {
      if (!this.#cells.has(item)) {
        this.#cells.set(item, make("div", { role: "listitem" }, catdog.card(item)));
      }
      return this.#cells.get(item);
    }

    #onKey(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const { columns, rowHeight } = this.#grid();
      const page = columns * Math.max(1, Math.floor(window.innerHeight / rowHeight) - 1);
      const steps = {
        ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns,
        PageUp: -page, PageDown: page, Home: -this.items.length, End: this.items.length,
      };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const place = this.items.indexOf(event.target.item) + steps[event.key];
      this.focus(this.items[Math.min(this.items.length - 1, Math.max(0, place))]);
    }
  };
}
