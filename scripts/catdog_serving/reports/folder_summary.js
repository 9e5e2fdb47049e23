
// The summary, the labels and the histograms of a folder report: they cover every image.

const LABELS = ["cat", "dog", "neither"];
const FOLDER_COLUMNS = [
  "folder", "images", "failed", "skipped", "seconds", "images/s", "mean cat", "mean dog",
];

function showSummary(summary) {
  showModel(summary.model);
  byId("folder-columns").append(...FOLDER_COLUMNS.map((name) => make("th", { scope: "col" }, name)));
  byId("folders").append(...summary.folders.map((folder) => tableRow(FOLDER_COLUMNS, [
    folder.folder,
    count(folder.images),
    count(folder.failed),
    count(folder.skipped),
    folder.seconds.toFixed(2),
    folder.images_per_s.toFixed(2),
    mass(folder.mean_cat),
    mass(folder.mean_dog),
  ])));
  const types = Object.entries(summary.failed_by_type).map(([type, n]) => `${type} ${count(n)}`);
  if (types.length) {
    byId("failure-types").textContent = `${count(summary.failed)} failed: ${types.join(", ")}`;
    byId("failure-types").hidden = false;
  }
  const images = Object.values(summary.labels).reduce((sum, n) => sum + n, 0);
  showLabels(summary.labels, images);
  for (const kind of ["cat", "dog"]) {
    byId(`${kind}-histogram`).append(histogram(kind, summary.histograms[kind]));
  }
  const { listed } = summary;
  if (listed.images < images || listed.failed < summary.failed) {
    byId("truncated").textContent =
      `This page lists the ${count(listed.images)} least certain of ${plural(images, "image")}` +
      ` and ${count(listed.failed)} of ${plural(summary.failed, "failed file")}.` +
      " The summary and the histograms cover all of them.";
    byId("truncated").hidden = false;
  }
}

function showLabels(labels, images) {
  const bars = LABELS.flatMap((label) => {
    const [name, track] = bar(label, images ? (labels[label] ?? 0) / images : 0, label);
    return [name, track, make("span", { class: "number" }, count(labels[label] ?? 0))];
  });
  byId("labels").append(make("div", { class: "bars" }, ...bars));
}

/** Bars over [0, 1]; what is not zero is at least one pixel high. */
function histogram(kind, counts) {
  const [width, height, left, bottom, top] = [360, 128, 34, 18, 8];
  const most = Math.max(1, ...counts);
  const x = (share) => left + share * (width - left);
  const y = (n) => height - bottom - (n / most) * (height - bottom - top);
  const slot = (width - left) / counts.length;
  const bars = counts.map((n, i) => {
    const barTop = n ? Math.min(y(n), y(0) - 1) : y(0);
    const range = `${(i / counts.length).toFixed(2)} to ${((i + 1) / counts.length).toFixed(2)}`;
    return draw(
      "rect",
      { x: x(i / counts.length) + 1, y: barTop, width: slot - 2, height: y(0) - barTop, rx: 1 },
      draw("title", {}, `${kind} mass ${range}: ${plural(n, "image")}`),
    );
  });
  const text = (at, level, anchor, content) =>
    draw("text", { x: at, y: level, "text-anchor": anchor }, content);
  const label = `Histogram of the ${kind} mass, from 0 to 1: ${counts.join(", ")}`;
  return draw(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: kind },
    draw("line", { x1: left, x2: width, y1: y(most), y2: y(most), "stroke-dasharray": "2 3" }),
    draw("line", { x1: left, x2: width, y1: y(0), y2: y(0) }),
    text(left - 6, y(most) + 4, "end", count(most)),
    text(left - 6, y(0) + 3, "end", "0"),
    ...bars,
    ...[0, 0.25, 0.5, 0.75, 1].map((share) =>
      text(x(share), height - 4, share === 1 ? "end" : share ? "middle" : "start", String(share))),
  );
}
