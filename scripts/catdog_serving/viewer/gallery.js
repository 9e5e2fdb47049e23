
// A gallery of any length: only the cards near the window are in the document.

const GAP = 8; // px, between cards
const CARD_TEXT = 47; // px, the two lines below a card's image
const OVERSCAN = 400; // px above and below the window that are drawn too

class Gallery {
  #element;
  #toolbar;
  #makeCard;
  #cards = new Map(); // place among the items -> list item in the document
  #grid = { columns: 1, width: 1, rowHeight: 1 };
  #laidOutWidth = 0;
  #frame = 0;

  items = [];
  active = 0; // the place that Tab and the arrow keys go from

  /**
   * `makeCard(item)` gives a button; `open(place)` is called when one is pressed.
   * The toolbar covers the top of the window.
   */
  constructor(element, toolbar, makeCard, open) {
    this.#element = element;
    this.#toolbar = toolbar;
    this.#makeCard = makeCard;
    element.addEventListener("click", (event) => {
      const card = event.target.closest("button");
      if (card) open(Number(card.dataset.place));
    });
    element.addEventListener("keydown", (event) => this.#onKey(event));
    window.addEventListener("scroll", () => this.#renderSoon(), { passive: true });
    window.addEventListener("resize", () => this.#renderSoon());
    new ResizeObserver(() => {
      if (element.clientWidth !== this.#laidOutWidth) this.#layout();
    }).observe(element);
  }

  /** Show other items, from the first one on. */
  show(items) {
    this.items = items;
    this.active = 0;
    const start = this.#element.offsetTop - this.#toolbar.offsetHeight;
    if (window.scrollY > start) window.scrollTo(0, start);
    this.#layout();
  }

  /** Bring a card into the window and focus it. */
  focus(place) {
    this.active = place;
    const covered = this.#toolbar.offsetHeight;
    const top = this.#element.getBoundingClientRect().top + this.#position(place).y;
    const excess = top + this.#grid.rowHeight - window.innerHeight;
    if (top < covered) window.scrollBy(0, top - covered);
    else if (excess > 0) window.scrollBy(0, excess);
    this.#render();
    this.#cards.get(place).firstChild.focus({ preventScroll: true });
  }

  #position(place) {
    const { columns, width, rowHeight } = this.#grid;
    return { x: (place % columns) * (width + GAP), y: Math.floor(place / columns) * rowHeight };
  }

  #layout() {
    const all = this.#element.clientWidth;
    const narrowest = all < 640 ? 104 : 132; // px
    const columns = Math.max(1, Math.floor((all + GAP) / (narrowest + GAP)));
    const width = (all - GAP * (columns - 1)) / columns;
    const height = Math.round(width) + CARD_TEXT;
    this.#grid = { columns, width, rowHeight: height + GAP };
    this.#laidOutWidth = all;
    this.#element.style.setProperty("--card-width", `${width}px`);
    this.#element.style.setProperty("--card-height", `${height}px`);
    this.#element.style.height = `${Math.ceil(this.items.length / columns) * (height + GAP)}px`;
    this.#cards.clear();
    this.#element.replaceChildren();
    this.#render();
  }

  #renderSoon() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #render() {
    const [first, end] = this.#window();
    for (const [place, card] of this.#cards) {
      if (place < first || place >= end) {
        card.remove();
        this.#cards.delete(place);
      }
    }
    // Tab and screen readers follow the document's order, so each card is put before the
    // next one there is.
    let following = null;
    for (let place = end - 1; place >= first; place--) {
      if (!this.#cards.has(place)) {
        this.#cards.set(place, this.#element.insertBefore(this.#listItem(place), following));
      }
      following = this.#cards.get(place);
    }
    const reachable = this.#cards.has(this.active) ? this.active : first;
    for (const [place, card] of this.#cards) {
      card.firstChild.tabIndex = place === reachable ? 0 : -1;
    }
  }

  /** The places to draw: from the first, up to but not with the second. */
  #window() {
    const { columns, rowHeight } = this.#grid;
    const above = -this.#element.getBoundingClientRect().top;
    const firstRow = Math.max(0, Math.floor((above - OVERSCAN) / rowHeight));
    const endRow = Math.max(1, Math.ceil((above + window.innerHeight + OVERSCAN) / rowHeight));
    return [firstRow * columns, Math.min(this.items.length, endRow * columns)];
  }

  #listItem(place) {
    const card = this.#makeCard(this.items[place]);
    const { x, y } = this.#position(place);
    card.dataset.place = place;
    card.style.transform = `translate(${x}px, ${y}px)`;
    const position = { "aria-setsize": this.items.length, "aria-posinset": place + 1 };
    return make("div", { role: "listitem", ...position }, card);
  }

  #onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { columns, rowHeight } = this.#grid;
    const page = columns * Math.max(1, Math.floor(window.innerHeight / rowHeight) - 1);
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns,
      PageUp: -page, PageDown: page, Home: -this.items.length, End: this.items.length,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const place = Number(event.target.dataset.place) + steps[event.key];
    this.focus(Math.min(this.items.length - 1, Math.max(0, place)));
  }
}
