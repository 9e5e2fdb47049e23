
// The worst mistakes of an evaluation, as a gallery that says what each image is in truth.

function mistakeFigure(item) {
  const name = fileName(item.path);
  return make(
    "figure",
    { role: "listitem", title: item.path },
    imageOf(item),
    make(
      "figcaption",
      {},
      answerLine(item.taken_for, item[item.taken_for]),
      make("div", { class: "muted" }, `truth: ${item.truth}`),
      item.link ? originalLink(item, name) : name,
    ),
  );
}

byId("mistakes").append(...readBlock("items").map(mistakeFigure));
