
// A folder report: its charts, which cover every image, and its gallery.
{
  const { bars, byId, count, make, plural } = catdog;
  const charts = catdog.data.charts;

  /** Columns over [0, 1]; what is not zero is at least one pixel high. */
  const histogram = (kind, counts) => {
    const most = Math.max(1, ...counts);
    const columns = counts.map((n, i) => {
      const range = [i, i + 1].map((edge) => (edge / counts.length).toFixed(2)).join(" to ");
      const column = make("div", { title: `${kind} ${range}: ${plural(n, "image")}` });
      column.style.height = n ? `max(1px, ${(100 * n) / most}%)` : "0";
      return column;
    });
    const label = `Histogram of ${kind}, from 0 to 1: ${counts.join(", ")}`;
    const axis = [0, 0.25, 0.5, 0.75, 1].map((share) => make("span", {}, String(share)));
    return [
      make("div", { class: "axis" }, `up to ${plural(most, "image")}`),
      make("div", { class: `histogram ${kind}`, role: "img", "aria-label": label }, ...columns),
      make("div", { class: "axis" }, ...axis),
    ];
  };

  byId("labels").append(bars(Object.entries(charts.labels).map(
    ([label, number]) => [label, number / Math.max(1, charts.images), label, count(number)])));
  for (const kind of ["cat", "dog"]) {
    byId(`${kind}-histogram`).append(...histogram(kind, charts.histograms[kind]));
  }
  catdog.view(catdog.data.items);
}
