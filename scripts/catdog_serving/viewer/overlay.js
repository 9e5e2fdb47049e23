
// An image's map and box, drawn as two canvases that lie over the image and are fitted like it.
{
  const { make } = catdog;
  const style = catdog.data.overlay;
  const SIDE = 512; // px, a canvas's longer side

  /** Map and box of an item, as far as it has them; `overlay.py` says how they look. */
  catdog.overlay = (item) => {
    if (!item.map) return [];
    const [width, height] = item.map.size;
    const scale = SIDE / Math.max(width, height);
    const sheet = (name, paint) => {
      const canvas = make("canvas", {
        class: `overlay ${name}`,
        width: Math.max(1, Math.round(width * scale)),
        height: Math.max(1, Math.round(height * scale)),
        "aria-hidden": "true",
      });
      const pen = canvas.getContext("2d");
      pen.scale(canvas.width / width, canvas.height / height); // the image's own pixels
      paint(pen);
      return canvas;
    };
    const map = sheet("map", (pen) => {
      const [x0, y0, x1, y1] = item.map.view;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(mapCells(item.map.grid), x0, y0, x1 - x0, y1 - y0);
    });
    if (!item.box) return [map];
    return [map, sheet("box", (pen) => {
      const [left, top, right, bottom] = item.box;
      const inset = 3 / scale;
      for (const [colour, line] of [["#000", 6], [style.box, 4]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = line / scale;
        pen.strokeRect(
          left + inset, top + inset, right - left - 2 * inset, bottom - top - 2 * inset);
      }
    })];
  };

  /** One pixel for each cell, clear where it is 0; enlarging it interpolates between them. */
  const mapCells = (grid) => {
    const pixels = grid.flat().flatMap(
      (value) => [...style.colours[Math.round(value * (style.colours.length - 1))], 255 * value]);
    const cells = make("canvas", { width: grid[0].length, height: grid.length });
    const image = new ImageData(Uint8ClampedArray.from(pixels), cells.width);
    cells.getContext("2d").putImageData(image, 0, 0);
    return cells;
  };
}
