
// An image's card, and the parts of it that other views of an image have too.

const labelOf = (item) => (item.error ? "failed" : item.label);

/** A card for a gallery; `style` is how maps and boxes are drawn. */
function makeCard(item, style) {
  const label = labelOf(item);
  const name = fileName(item.path);
  const certainty = item.error ? null : item.certainty;
  const spoken = `${name}: ${label} ${rounded(certainty)}`;
  const image = make("div", { class: "image" }, imageOf(item));
  const card = make(
    "button",
    { type: "button", class: `card ${label}`, title: item.path, "aria-label": spoken },
    image,
    answerLine(label, certainty),
    make("div", { class: "name" }, name),
  );
  for (const event of ["pointerenter", "focus"]) {
    card.addEventListener(event, () => showOverlay(image, item, style), { once: true });
  }
  return card;
}

const rounded = (share) => (share === null ? "" : share.toFixed(2));

/** The image, small; or why there is none to see. */
function imageOf(item) {
  if (item.error) return make("div", { class: "reason" }, item.error.message);
  if (!item.thumbnail) return make("div", { class: "reason" }, "the image cannot be shown");
  return make("img", { src: item.thumbnail, alt: "", decoding: "async" });
}

/** What the image was taken for, in its colour, and its certainty. */
function answerLine(label, share) {
  return make(
    "div",
    { class: `answer ${label}` },
    make("span", { class: "kind" }, label),
    make("span", {}, rounded(share)),
  );
}

function originalLink(item, text) {
  return make("a", { href: item.link, target: "_blank", rel: "noopener" }, text);
}

/** Put map and box over an image that shows them on hover and focus: see gallery.css. */
function showOverlay(image, item, style) {
  if (item.thumbnail && !image.querySelector(".overlay")) {
    image.append(overlayOf(item, style) ?? "");
  }
}
