
const figures = readBlock("figures");
const plots = readBlock("plots");
const mistakes = readBlock("mistakes");

const LABELS = ["cat", "dog", "neither", "failed"];
const COLUMNS = [
  "truth", "called cat", "called dog", "called neither", "failed",
  "mean cat", "mean dog", "mean other",
];
const TRUTHS = { cat: "cats", dog: "dogs", neither: "neither" };

function tile(title, value, ...notes) {
  byId("tiles").append(make(
    "section",
    { class: "panel" },
    make("h2", {}, title),
    make("p", { class: "value" }, value),
    ...notes.map((note) => make("p", { class: "muted" }, note)),
  ));
}

function shareTile(title, share) {
  tile(
    title,
    mass(share.value),
    `${count(share.count)} of ${count(share.total)}`,
    `95 %: ${mass(share.low)} to ${mass(share.high)}`,
  );
}

function showTiles() {
  shareTile("Two-way accuracy", figures.two_way);
  shareTile("Cats found", figures.cats);
  shareTile("Dogs found", figures.dogs);
  const best = figures.best_threshold;
  if (best) {
    shareTile("Three-way accuracy", figures.three_way);
    tile(
      "Best threshold",
      mass(best.threshold),
      `presence_threshold, chosen on these images: ${mass(best.right.value)} three-way` +
        ` from ${mass(best.low)} to ${mass(best.high)}`,
    );
  }
  tile("ROC AUC", mass(figures.roc_auc), "cat against dog, by cat - dog");
  tile(
    "Calibration error",
    mass(figures.calibration_error),
    `expected, ${figures.calibration.length} bins of max(cat, dog) / (cat + dog)`,
  );
}

function showConfusion() {
  byId("confusion-columns").append(...COLUMNS.map((name) => make("th", { scope: "col" }, name)));
  for (const [truth, counts] of Object.entries(figures.confusion)) {
    const means = figures.mean_masses[truth] ?? { cat: null, dog: null, other: null };
    const row = tableRow(COLUMNS, [
      TRUTHS[truth],
      ...LABELS.map((label) => count(counts[label])),
      ...["cat", "dog", "other"].map((kind) => mass(means[kind])),
    ]);
    LABELS.forEach((label, i) => {
      row.children[i + 1].className = label === truth ? `right ${label}` : "count";
    });
    byId("confusion").append(row);
  }
  if (figures.failed) {
    byId("failed-note").textContent =
      `${plural(figures.failed, "file")} failed and ${figures.failed === 1 ? "is" : "are"}` +
      " no part of any accuracy.";
    byId("failed-note").hidden = false;
  }
}

function showPlots() {
  byId("plots").append(...plots.map(({ title, image }) => make(
    "section",
    { class: "panel" },
    make("h2", {}, title),
    make("img", { src: image, alt: `Plot: ${title}` }),
  )));
}

function showMistakes() {
  byId("mistakes-title").textContent = mistakes.length
    ? "Worst mistakes: the highest mass on the wrong animal"
    : "No mistakes";
  byId("mistakes").append(...mistakes.map((item) => {
    const name = fileName(item.path);
    const image = item.thumbnail
      ? make("img", { src: item.thumbnail, alt: "" })
      : make("div", { class: "missing" }, "the image cannot be shown");
    const link = make("a", { href: item.link, target: "_blank", rel: "noopener" }, name);
    return make(
      "figure",
      { role: "listitem", title: item.path },
      image,
      make(
        "figcaption",
        {},
        make(
          "div",
          { class: `answer ${item.taken_for}` },
          make("span", { class: "kind" }, item.taken_for),
          make("span", {}, item[item.taken_for].toFixed(2)),
        ),
        make("div", { class: "muted" }, `truth: ${item.truth}`),
        item.link ? link : name,
      ),
    );
  }));
}

function showFailures() {
  if (!figures.failed) return;
  const { failures } = figures;
  const listed = failures.length < figures.failed ? `, ${count(failures.length)} listed` : "";
  byId("failures-title").textContent = `${count(figures.failed)} failed${listed}`;
  byId("failures").append(...failures.flatMap((item) => [
    make("dt", {}, item.path), make("dd", {}, item.error.message)]));
  byId("failures-panel").hidden = false;
}

showModel(figures.model);
showTiles();
showConfusion();
showPlots();
showMistakes();
showFailures();
