
/** A good answer of the page's own server; what it throws is a sentence. */
catdog.fetched = async (path, options) => {
  const response = await fetch(path, options).catch(() => {
    throw new Error("The page's own server does not answer. Start catdog web, then try again.");
  });
  if (response.ok) return response;
  const { message } = await response.json().catch(() => ({}));
  throw new Error(message ?? `The page's server answered ${response.status}.`);
};

// The page's images: they go to the page's own server, a few at once, and are shown as it answers.
{
  const { byId, count, plural } = catdog;
  const limits = catdog.data.limits;
  const THUMBNAIL_SIDE = 256; // px

  const items = [];
  const waiting = []; // files
  let working = 0; // how many are under way
  let asked = 0; // files since nothing was left to do

  /** Ask about files, after those before them. */
  const add = (files) => {
    const room = limits.max_images - items.length - waiting.length - working;
    const taken = [...files].slice(0, room);
    say(taken.length === files.length ? "" : `${count(limits.max_images)} images at most are ` +
      "shown here: clear the page, or use: catdog classify FOLDER");
    asked += taken.length;
    waiting.push(...taken);
    byId("zone").classList.add("small");
    go();
  };

  /** Ask about what waits, a few at once, unless there is a problem. */
  const go = () => {
    while (byId("again").hidden && working < limits.at_once && waiting.length) {
      answer(waiting.shift());
    }
    showSoon();
  };

  /** Ask about one file, and go on with the next; if nothing answers it waits, with a sentence. */
  const answer = async (file) => {
    working += 1;
    try {
      items.push(await itemOf(file));
    } catch (problem) {
      waiting.unshift(file);
      say(problem.message, true);
    }
    working -= 1;
    go();
  };

  const itemOf = async (file) => {
    const failed = (type, message) => {
      const row = { path: file.name, size: file.size, error: { type, message } };
      return { ...row, row };
    };
    if (file.size > limits.max_bytes) {
      const most = Math.round(limits.max_bytes / 2 ** 20);
      return failed("TooLarge", `the file is larger than ${most} MiB; send a smaller image`);
    }
    const isReadable = await file.slice(0, 1).arrayBuffer().then(() => true, () => false);
    if (!isReadable) {
      return failed("Unreadable", "it cannot be read: drop the images of a folder, not the folder");
    }
    const item = await ask("predictions", file);
    if (item.error) return item;
    const thumbnail = item.thumbnail ?? (await thumbnailOf(file));
    return { ...item, file, thumbnail, link: URL.createObjectURL(file) };
  };

  const ask = async (path, file, signal) => {
    const name = encodeURIComponent(file.name.toWellFormed?.() ?? file.name);
    const headers = { "Content-Type": "application/octet-stream", "X-File-Name": name };
    const response = await catdog.fetched(path, { method: "POST", body: file, headers, signal });
    return response.json();
  };

  /** A small image, made here: the browser decodes it as it would to show it. */
  const thumbnailOf = async (file) => {
    try {
      const bitmap = await createImageBitmap(file, { resizeWidth: THUMBNAIL_SIDE, resizeQuality: "medium" });
      const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
      canvas.getContext("bitmaprenderer").transferFromImageBitmap(bitmap);
      return URL.createObjectURL(await canvas.convertToBlob({ type: "image/webp", quality: 0.8 }));
    } catch {
      return null; // a format that this browser does not show
    }
  };

  /** Map and box of the whole image, in place of those of the crop that was classified. */
  const explain = async (item, signal) => {
    try {
      const { error, map, box, fills } = await ask("explanations", item.file, signal);
      if (error) throw new Error(error.message);
      const caption = fills ? "it fills the image" : "map and box of the whole image";
      Object.assign(item, { box, map, caption, explained: true });
    } catch (problem) {
      if (!signal.aborted) item.caption = problem.message;
    }
  };

  const view = catdog.view(items, explain);

  /** Say something; with `isProblem` nothing goes on until somebody tries again. */
  const say = (text, isProblem = false) => {
    byId("again").hidden = !isProblem;
    byId("problem").firstElementChild.textContent = text;
    byId("problem").hidden = !text;
  };

  const show = () => {
    const left = waiting.length + working;
    byId("results").hidden = !items.length;
    view.changed(); // it measures, and so comes before what else is written
    byId("working").hidden = !left;
    byId("progress").max = Math.max(1, asked);
    byId("progress").value = asked - left;
    byId("so-far").textContent = `${count(asked - left)} of ${count(asked)}`;
    byId("message").textContent = left || !items.length ? "" : summary();
    if (!left) asked = 0;
  };

  const showSoon = catdog.inNextFrame(show);

  const summary = () => {
    const parts = ["cat", "dog", "neither", "failed"].flatMap((label) => {
      const number = view.numberOf(label);
      return number ? [`${count(number)} ${label}`] : [];
    });
    return `${plural(items.length, "image")}: ${parts.join(", ")}`;
  };

  const save = { // the rows of `catdog classify`; those that the page refused have no line of CSV
    csv: () => {
      const lines = items.map((item) => item.csv ?? "");
      catdog.download("catdog.csv", "text/csv", limits.csv_header + lines.join(""));
    },
    json: () => {
      const images = items.map((item) => item.row);
      catdog.download("catdog.json", "application/json", JSON.stringify({ images }, null, 1));
    },
  };

  const trySamples = async () => {
    const files = limits.samples.map(async (name) => {
      const response = await catdog.fetched(`samples/${name}`);
      return new File([await response.blob()], name);
    });
    await Promise.all(files).then(add, (problem) => say(problem.message));
  };

  for (const [button, input] of [["choose", "files"], ["camera", "photo"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", () => {
      add(byId(input).files);
      byId(input).value = ""; // so that the same file can be chosen again
    });
  }
  byId("samples").addEventListener("click", trySamples);
  byId("clear").addEventListener("click", () => location.reload());
  byId("csv").addEventListener("click", save.csv);
  byId("json").addEventListener("click", save.json);
  byId("again").addEventListener("click", () => {
    say("");
    go();
  });
  // All of the page is the drop zone: beside it a browser would open the image instead.
  for (const type of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      event.preventDefault();
      const isOver = type === "dragover" || Boolean(event.relatedTarget);
      document.body.classList.toggle("dragging", isOver);
    });
  }
  for (const type of ["drop", "paste"]) {
    document.addEventListener(type, (event) => {
      const { files } = event.dataTransfer ?? event.clipboardData;
      if (files.length) add(files);
    });
  }
}
