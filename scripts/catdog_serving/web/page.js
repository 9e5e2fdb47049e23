
/** A good answer of the page's own server; what it throws is a sentence. */
catdog.fetched = async (path, options) => {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The page's own server does not answer. Start catdog web, then try again.");
  }
  if (response.ok) return response;
  const { message } = await response.json().catch(() => ({}));
  throw new Error(message ?? `The page's server answered ${response.status}.`);
};

// The page's images: they go to the page's own server, a few at once, and are shown as it answers.
{
  const { byId, count, plural } = catdog;
  const limits = catdog.readBlock("limits");
  const THUMBNAIL_SIDE = 256; // px

  const items = [];
  const waiting = []; // files
  let working = 0; // how many are under way
  let asked = 0; // files since nothing was left to do
  let ended = new AbortController(); // aborted when the page is cleared
  let frame = 0;

  /** Ask about files, after those before them. */
  const add = (files) => {
    const room = limits.max_images - items.length - waiting.length - working;
    const taken = [...files].slice(0, Math.max(0, room));
    say(taken.length === files.length ? "" : `${count(limits.max_images)} images at most are ` +
      "shown here: clear the page, or use: catdog classify FOLDER");
    asked += taken.length;
    waiting.push(...taken);
    byId("zone").classList.add("small");
    go();
  };

  const go = () => {
    while (working < limits.at_once && waiting.length) answer(waiting.shift());
    showSoon();
  };

  /** Ask about one file, and go on with the next; if nothing answers it waits, with a sentence. */
  const answer = async (file) => {
    const { signal } = ended;
    working += 1;
    try {
      const item = await itemOf(file, signal);
      if (!signal.aborted) items.push(item);
    } catch (problem) {
      if (signal.aborted) return;
      waiting.unshift(file);
      say(problem.message, true);
    } finally {
      if (!signal.aborted) {
        working -= 1;
        if (byId("again").hidden) go();
        else showSoon();
      }
    }
  };

  const itemOf = async (file, signal) => {
    const failed = (type, message) => {
      const row = { path: file.name, size: file.size, error: { type, message } };
      return { ...row, row, csv: null };
    };
    if (file.size > limits.max_bytes) {
      const most = Math.round(limits.max_bytes / 2 ** 20);
      return failed("TooLarge", `the file is larger than ${most} MiB; send a smaller image`);
    }
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      return failed("Unreadable", "it cannot be read: drop the images of a folder, not the folder");
    }
    const { item, row, csv } = await ask("predictions", file, signal);
    if (item.error) return { ...item, row, csv };
    const thumbnail = item.thumbnail ?? (await thumbnailOf(file));
    return { ...item, row, csv, file, thumbnail, link: URL.createObjectURL(file) };
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
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      bitmap.close();
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
      item.caption = problem.message;
    }
  };

  const view = catdog.view(items, explain);

  /** Say something; with `isProblem` nothing goes on until somebody tries again. */
  const say = (text, isProblem = false) => {
    byId("again").hidden = !isProblem;
    byId("problem").firstElementChild.textContent = text;
    byId("problem").hidden = !text;
  };

  const showSoon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      show();
    });
  };

  const show = () => {
    const left = waiting.length + working;
    byId("working").hidden = !left;
    byId("progress").max = Math.max(1, asked);
    byId("progress").value = asked - left;
    byId("so-far").textContent = `${count(asked - left)} of ${count(asked)}`;
    byId("results").hidden = !items.length;
    view.changed();
    byId("message").textContent = left || !items.length ? "" : summary();
    if (!left) asked = 0;
  };

  const summary = () => {
    const parts = ["cat", "dog", "neither", "failed"].flatMap((label) => {
      const number = items.filter((item) => catdog.labelOf(item) === label).length;
      return number ? [`${count(number)} ${label}`] : [];
    });
    return `${plural(items.length, "image")}: ${parts.join(", ")}`;
  };

  const clear = () => {
    ended.abort();
    ended = new AbortController();
    for (const item of items) {
      for (const url of [item.link, item.thumbnail]) if (url) URL.revokeObjectURL(url);
    }
    items.length = waiting.length = working = asked = 0;
    byId("zone").classList.remove("small");
    say("");
    show();
  };

  const save = { // the rows of `catdog classify`; those that the page refused have no line of CSV
    csv: () => {
      const tables = items.flatMap((item) => item.csv ?? []);
      const afterHeader = (table) => table.slice(table.indexOf("\r\n") + 2); // names have such, too
      const lines = tables.map((table, place) => (place ? afterHeader(table) : table));
      catdog.download("catdog.csv", "text/csv", lines.join(""));
    },
    json: () => {
      const images = items.map((item) => item.row);
      catdog.download("catdog.json", "application/json", JSON.stringify({ images }, null, 1));
    },
  };

  const trySamples = async () => {
    try {
      add(await Promise.all(limits.samples.map(async (name) => {
        const response = await catdog.fetched(`samples/${name}`);
        return new File([await response.blob()], name);
      })));
    } catch (problem) {
      say(problem.message);
    }
  };

  for (const [button, input] of [["choose", "files"], ["camera", "photo"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", () => {
      add(byId(input).files);
      byId(input).value = ""; // so that the same file can be chosen again
    });
  }
  byId("samples").addEventListener("click", trySamples);
  byId("clear").addEventListener("click", clear);
  byId("csv").addEventListener("click", save.csv);
  byId("json").addEventListener("click", save.json);
  byId("again").addEventListener("click", () => {
    say("");
    go();
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) add(event.clipboardData.files);
  });
  // All of the page is the drop zone: beside it a browser would open the image instead.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    if (event.dataTransfer.files.length) add(event.dataTransfer.files);
  });
}
