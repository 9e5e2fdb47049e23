
// Gallery, panel and filters of one page, and the cards of the gallery.
{
  const { fileName, labelOf, make } = catdog;

  /**
   * Show items: each has a `path` and a `thumbnail` (a URL, or null), and either `error`, or
   * `label`, `cat`, `dog`, `other` and `certainty`; what else they may have is in gallery.py.
   * Gives the filters, to call `changed` when `items` has others; `explain` is the panel's.
   */
  catdog.view = (items, explain) => {
    const gallery = new catdog.Gallery((item) => panel.open(item));
    const filters = new catdog.Filters(items, gallery);
    const panel = new catdog.Panel(gallery, explain, (item) => {
      gallery.forget(item);
      filters.update();
    });
    return filters;
  };

  /** An item's card; its map and box come with the pointer or the focus: see viewer.css. */
  catdog.card = (item) => {
    const label = labelOf(item);
    const name = fileName(item.path);
    const certainty = item.error ? "" : item.certainty.toFixed(2);
    const spoken = `${name}: ${label} ${certainty}${item.wrong ? ", marked as wrong" : ""}`;
    const small = item.thumbnail
      ? make("img", { src: item.thumbnail, alt: "", decoding: "async" })
      : make("div", { class: "reason" }, item.error?.message ?? "the image cannot be shown");
    const image = make("div", { class: "image" }, small);
    const attributes = {
      type: "button",
      class: `card ${label}${item.wrong ? " wrong" : ""}`,
      title: item.path,
      "aria-label": spoken,
    };
    const card = make("button", attributes, image,
      make("div", { class: "answer" }, make("span", { class: "kind" }, label), certainty),
      make("div", { class: "name" }, item.truth ? `${item.truth}: ${name}` : name),
    );
    card.item = item;
    for (const event of item.thumbnail ? ["pointerenter", "focus"] : []) {
      card.addEventListener(event, () => {
        if (image.childElementCount === 1) image.append(...catdog.overlay(item));
      });
    }
    return card;
  };
}
