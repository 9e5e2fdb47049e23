
// An image's map and box, drawn as a canvas that lies over the image and is fitted like it.

const OVERLAY_SIDE = 512; // px, the canvas's longer side

/** Null for an image that has neither; `style` has the colours of low to high, opacity, box. */
function overlayOf(item, style) {
  if (!item.map) return null;
  const [width, height] = item.map.size;
  const scale = OVERLAY_SIDE / Math.max(width, height);
  const canvas = make("canvas", {
    class: "overlay",
    width: Math.max(1, Math.round(width * scale)),
    height: Math.max(1, Math.round(height * scale)),
    "aria-hidden": "true",
  });
  const pen = canvas.getContext("2d");
  pen.scale(canvas.width / width, canvas.height / height); // the image's own pixels
  const [x0, y0, x1, y1] = item.map.view;
  pen.imageSmoothingQuality = "high";
  pen.drawImage(mapCells(item.map.grid, style), x0, y0, x1 - x0, y1 - y0);
  if (item.box) {
    const [left, top, right, bottom] = item.box;
    for (const [colour, line] of [["#000", 6], [style.box, 4]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = line / scale;
      const inset = 3 / scale;
      pen.strokeRect(left + inset, top + inset, right - left - 2 * inset, bottom - top - 2 * inset);
    }
  }
  return canvas;
}

/** One pixel for each cell; enlarging it interpolates between them. */
function mapCells(grid, style) {
  const cells = make("canvas", { width: grid[0].length, height: grid.length });
  const pen = cells.getContext("2d");
  const pixels = pen.createImageData(cells.width, cells.height);
  grid.flat().forEach((value, place) => {
    const colour = style.colours[Math.round(value * (style.colours.length - 1))];
    pixels.data.set([...colour, Math.round(255 * value * style.opacity)], 4 * place);
  });
  pen.putImageData(pixels, 0, 0);
  return cells;
}
