
// A folder report: which images the gallery shows, and one image in detail.

const labelOf = (item) => (item.error ? "failed" : item.label);

const summary = readBlock("summary");
const items = readBlock("images"); // the least certain first, then the failed
for (const item of items) item.searched = item.path.toLowerCase();
const orders = { least: items };
let chosenLabel = "all";
const gallery = new Gallery(byId("gallery"), byId("toolbar"), makeCard, openDetail);

function ordered(order) {
  if (!orders[order]) {
    const collator = new Intl.Collator(undefined, { numeric: true });
    orders[order] = [...items].sort(
      order === "name"
        ? (a, b) => collator.compare(a.path, b.path)
        : (a, b) => (b.certainty ?? -1) - (a.certainty ?? -1),
    );
  }
  return orders[order];
}

/** Show what label, search and order ask for. */
function update() {
  const query = byId("search").value.toLowerCase();
  const isShown = (item) =>
    (chosenLabel === "all" || labelOf(item) === chosenLabel) && item.searched.includes(query);
  gallery.show(ordered(byId("order").value).filter(isShown));
  byId("found").textContent = `${count(gallery.items.length)} of ${count(items.length)} shown`;
}

function showChips() {
  const counts = { all: items.length };
  for (const item of items) counts[labelOf(item)] = (counts[labelOf(item)] ?? 0) + 1;
  const chips = ["all", ...LABELS, "failed"].map((label) => {
    const attributes = { type: "button", class: label, "aria-pressed": label === "all" };
    const number = make("span", { class: "muted" }, count(counts[label] ?? 0));
    const chip = make("button", attributes, label, " ", number);
    chip.addEventListener("click", () => {
      chosenLabel = label;
      for (const other of chips) other.setAttribute("aria-pressed", other === chip);
      update();
    });
    return chip;
  });
  byId("chips").append(...chips);
}

function makeCard(item) {
  const label = labelOf(item);
  const name = fileName(item.path);
  const certainty = item.error ? "" : item.certainty.toFixed(2);
  const spoken = `${name}: ${label} ${certainty}`;
  const image = make("div", { class: "image" }, imageOf(item));
  const card = make(
    "button",
    { type: "button", class: `card ${label}`, title: item.path, "aria-label": spoken },
    image,
    make(
      "div",
      { class: "answer" },
      make("span", { class: "kind" }, label),
      make("span", {}, certainty),
    ),
    make("div", { class: "name" }, name),
  );
  for (const event of ["pointerenter", "focus"]) {
    card.addEventListener(event, () => showOverlay(image, item), { once: true });
  }
  return card;
}

/** Put map and box over an image that shows them on hover and focus: see the style. */
function showOverlay(image, item) {
  if (item.thumbnail && !image.querySelector(".overlay")) {
    image.append(overlayOf(item, summary.overlay) ?? "");
  }
}

function imageOf(item) {
  if (item.error) return make("div", { class: "reason" }, item.error.message);
  if (!item.thumbnail) return make("div", { class: "reason" }, "the image cannot be shown");
  return make("img", { src: item.thumbnail, alt: "", decoding: "async" });
}

const dialog = byId("detail");

function openDetail(place) {
  gallery.active = place;
  const item = gallery.items[place];
  byId("detail-name").textContent = fileName(item.path);
  byId("detail-body").replaceChildren(...(item.error ? failureParts(item) : answerParts(item)));
  byId("detail-body").scrollTop = 0;
  byId("position").textContent = `${count(place + 1)} of ${count(gallery.items.length)}`;
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === gallery.items.length - 1;
  if (!dialog.open) dialog.showModal();
}

function answerParts(item) {
  const parts = [];
  if (item.thumbnail) {
    const large = make("img", { src: item.thumbnail, alt: "" });
    const overlay = overlayOf(item, summary.overlay);
    parts.push(make("div", { class: "large" }, large, overlay ?? ""));
    if (overlay) parts.push(overlaySwitch(overlay));
  }
  parts.push(make(
    "p",
    { class: `answer ${item.label}` },
    make("span", { class: "kind" }, item.label),
    item.breed ? ` · ${item.breed.name} (${Math.round(100 * item.breed.share)}%)` : "",
  ));
  parts.push(make(
    "div", { class: "bars" }, ...["cat", "dog", "other"].flatMap((k) => bar(k, item[k], k))));
  parts.push(make(
    "div",
    {},
    make("h3", {}, "Most probable classes"),
    make("div", { class: "bars" }, ...item.top.flatMap((c) => bar(c.name, c.probability, ""))),
  ));
  parts.push(fileFacts(item));
  return parts;
}

/** Fingers cannot hover: a box to tick shows and hides what lies over the image. */
function overlaySwitch(overlay) {
  const box = make("input", { type: "checkbox", checked: "" });
  box.addEventListener("change", () => { overlay.hidden = !box.checked; });
  return make("label", { class: "switch" }, box, " where it is: map and box");
}

function failureParts(item) {
  return [
    make("p", { class: "answer failed" }, make("span", { class: "kind" }, item.error.type)),
    make("p", {}, item.error.message),
    fileFacts(item),
  ];
}

function fileFacts(item) {
  const facts = make("dl", {}, make("dt", {}, "Path"), make("dd", {}, item.path));
  if (item.size !== null) {
    facts.append(make("dt", {}, "Size"), make("dd", {}, plural(item.size, "byte")));
  }
  if (item.link) {
    const link = make("a", { href: item.link, target: "_blank", rel: "noopener" }, "open the file");
    facts.append(make("dt", {}, "Original"), make("dd", {}, link));
  }
  return facts;
}

function moveDetail(step) {
  const place = gallery.active + step;
  if (place >= 0 && place < gallery.items.length) openDetail(place);
}

byId("search").addEventListener("input", update);
byId("order").addEventListener("change", update);
byId("close").addEventListener("click", () => dialog.close());
byId("previous").addEventListener("click", () => moveDetail(-1));
byId("next").addEventListener("click", () => moveDetail(1));
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") moveDetail(-1);
  if (event.key === "ArrowRight") moveDetail(1);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // the backdrop
});
dialog.addEventListener("close", () => gallery.focus(gallery.active));

showSummary(summary);
showChips();
update();
