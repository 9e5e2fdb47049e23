
// A folder report: its charts, which cover every image, and its gallery.
{
  const { bars, byId, count, draw, plural } = catdog;
  const LABELS = ["cat", "dog", "neither"];
  const charts = catdog.readBlock("charts");

  const showLabels = (labels) => {
    const numbers = LABELS.map((label) => labels[label] ?? 0);
    const images = Math.max(1, numbers.reduce((sum, n) => sum + n, 0));
    const shares = LABELS.map((label, i) => [label, numbers[i] / images, label, count(numbers[i])]);
    byId("labels").append(bars(shares));
  };

  /** Bars over [0, 1]; what is not zero is at least one pixel high. */
  const histogram = (kind, counts) => {
    const [width, height, left, bottom, top] = [360, 128, 34, 18, 8];
    const most = Math.max(1, ...counts);
    const x = (share) => left + share * (width - left);
    const y = (n) => height - bottom - (n / most) * (height - bottom - top);
    const slot = (width - left) / counts.length;
    const drawn = counts.map((n, i) => {
      const barTop = n ? Math.min(y(n), y(0) - 1) : y(0);
      const range = `${(i / counts.length).toFixed(2)} to ${((i + 1) / counts.length).toFixed(2)}`;
      return draw(
        "rect",
        { x: x(i / counts.length) + 1, y: barTop, width: slot - 2, height: y(0) - barTop, rx: 1 },
        draw("title", {}, `${kind} ${range}: ${plural(n, "image")}`),
      );
    });
    const text = (at, level, anchor, content) =>
      draw("text", { x: at, y: level, "text-anchor": anchor }, content);
    const label = `Histogram of ${kind}, from 0 to 1: ${counts.join(", ")}`;
    return draw(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: kind },
      draw("line", { x1: left, x2: width, y1: y(most), y2: y(most), "stroke-dasharray": "2 3" }),
      draw("line", { x1: left, x2: width, y1: y(0), y2: y(0) }),
      text(left - 6, y(most) + 4, "end", count(most)),
      text(left - 6, y(0) + 3, "end", "0"),
      ...drawn,
      ...[0, 0.25, 0.5, 0.75, 1].map((share) =>
        text(x(share), height - 4, share === 1 ? "end" : share ? "middle" : "start", String(share))),
    );
  };

  showLabels(charts.labels);
  for (const kind of ["cat", "dog"]) {
    byId(`${kind}-histogram`).append(histogram(kind, charts.histograms[kind]));
  }
  catdog.view(catdog.readBlock("items"));
}
