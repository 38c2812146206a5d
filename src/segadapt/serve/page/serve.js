"use strict";
(async function () {
  const byId = (id) => document.getElementById(id);
  const percent = (part, digits = 1) => (100 * part).toFixed(digits) + "%";

  function complain(line) {
    byId("broken").textContent = line;
    byId("broken").hidden = false;
  }

  let facts;
  try {
    facts = await (await fetch("facts.json")).json();
  } catch {
    complain("segadapt does not answer. Is the command still running?");
    return;
  }
  document.documentElement.classList.add("js");
  const { models, classes, limits } = facts;
  const two = models.length > 1;
  const viewer = makeViewer(facts);
  const describe = makeDetails(facts, viewer);
  const { part } = viewer;

  /* ---- the head ---- */

  document.title = facts.title + " · segadapt";
  byId("title").textContent = facts.title;
  models.forEach((model, place) => {
    const name = part("b", model.title);
    if (model.key === facts.recommended) {
      const badge = part("span", "recommended");
      badge.className = "badge";
      name.append(badge);
    }
    byId("lede").append(place ? " and " : "", name);
  });
  if (facts.why) byId("lede").append(document.createElement("br"), facts.why[0].toUpperCase() + facts.why.slice(1) + ".");
  const here = /^(localhost|127\.|\[::1\])/.test(location.hostname);
  byId("promise").textContent = "Images go to the segadapt command that runs on " +
    (here ? "this machine" : location.hostname + ", over a connection that is not encrypted") + ", and nowhere else. " +
    "Nothing is kept when it ends.";
  byId("foot").textContent = "Files of at most " + Math.floor(limits.upload / 1048576) + " MB and " +
    Math.floor(limits.pixels / 1e6) + " million pixels; the last " + limits.results + " results are kept. " +
    "For more: segadapt predict.";
  byId("images").accept = "image/*," + facts.suffixes.join(",");
  byId("changes").hidden = !two;
  if (!two) byId("order").querySelector("[value=differing]").remove();

  /* ---- what is given ---- */

  let items = [], chosen = null, number = 0;

  function problem(line) {
    byId("problems").append(part("li", line));
    byId("problems").hidden = false;
  }

  function isImage(name) {
    const low = name.toLowerCase();
    return facts.suffixes.some((suffix) => low.endsWith(suffix));
  }

  /* pairs: [file, name, whether it was named itself and not with its folder] */
  function take(pairs) {
    const wanted = pairs.filter(([, name, itself]) => itself || (isImage(name) && !/(^|\/)\./.test(name)));
    const other = pairs.length - wanted.length, room = limits.results - items.length;
    if (other) problem(other + (other > 1 ? " files of the folder are no images and were" : " file of the folder is no image and was") + " left out");
    if (wanted.length > room) {
      problem("The page keeps " + limits.results + " images: " + (wanted.length - room) + " of " + wanted.length +
        " were not taken. Press Clear before you give others; segadapt predict takes any number.");
    }
    if (!pairs.length) problem("There are no files in it.");
    wanted.sort((a, b) => a[1].localeCompare(b[1], undefined, { numeric: true }));
    for (const [file, name] of wanted.slice(0, Math.max(0, room))) items.push(item(file, name));
    work();
  }

  function item(file, name) {
    const button = document.createElement("button"), caption = part("span", name.split("/").pop());
    button.type = "button";
    button.title = name;
    button.disabled = true;
    button.setAttribute("aria-pressed", "false");
    button.append(caption);
    byId("thumbs").append(button);
    const made = { file, name, button, state: "waiting", result: null, given: number++ };
    button.addEventListener("click", () => choose(made));
    return made;
  }

  async function inside(entry, found) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([file, entry.fullPath.replace(/^\//, ""), false]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const one of some) await inside(one, found);
    }
  }

  async function dropped(transfer) {
    const entries = Array.from(transfer.items).map((one) => [one.webkitGetAsEntry && one.webkitGetAsEntry(), one.getAsFile()]);
    const found = [];
    for (const [entry, file] of entries) {
      if (entry && entry.isDirectory) await inside(entry, found).catch(() => problem(entry.name + " cannot be read"));
      else if (file) found.push([file, file.name, true]);
    }
    take(found);
  }

  const all = (list) => Array.from(list);
  byId("choose-images").addEventListener("click", () => byId("images").click());
  byId("choose-folder").addEventListener("click", () => byId("folder").click());
  byId("images").addEventListener("change", (event) => {
    take(all(event.target.files).map((file) => [file, file.name, true]));
    event.target.value = "";
  });
  byId("folder").addEventListener("change", (event) => {
    take(all(event.target.files).map((file) => [file, file.webkitRelativePath || file.name, false]));
    event.target.value = "";
  });
  let depth = 0;
  const drag = (change) => {
    depth = Math.max(0, change ? depth + change : 0);
    document.body.classList.toggle("dragging", depth > 0);
  };
  document.addEventListener("dragenter", (event) => { event.preventDefault(); drag(1); });
  document.addEventListener("dragleave", () => drag(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drag(0);
    dropped(event.dataTransfer);
  });

  /* ---- one image after another ---- */

  let running = false, stopped = null;

  function encoded(name) {
    try {
      return encodeURIComponent(name);
    } catch { // halves of surrogate pairs
      return encodeURIComponent(name.replace(/[\ud800-\udfff]/g, "_"));
    }
  }

  async function predicted(one, signal) {
    if (one.file.size > limits.upload) {
      throw new Error(one.name + " has " + Math.ceil(one.file.size / 1048576) + " MB, and " +
        Math.floor(limits.upload / 1048576) + " MB are taken; start segadapt serve with --max-mb");
    }
    for (;;) {
      const answer = await fetch("predict", { method: "POST", headers: { "X-File-Name": encoded(one.name) }, body: one.file, signal });
      if (answer.status !== 503) {
        const told = await answer.json();
        if (!answer.ok) throw new Error(told.error);
        return told;
      }
      await new Promise((done) => setTimeout(done, 1000)); // others send images, too
      signal.throwIfAborted();
    }
  }

  async function work() {
    shape();
    if (running) return;
    running = true;
    stopped = new AbortController();
    for (let one; !stopped.signal.aborted && (one = items.find((i) => i.state === "waiting"));) {
      one.state = "running";
      shape();
      try {
        one.result = await predicted(one, stopped.signal);
        if (!items.includes(one)) continue; // cleared meanwhile
        one.state = "done";
        finished(one);
      } catch (fault) {
        if (stopped.signal.aborted) {
          one.state = "waiting";
        } else if (fault instanceof TypeError) { // no connection
          one.state = "waiting";
          problem(one.name + " could not be sent: the file has changed, or segadapt does not answer any more");
          stopped.abort();
        } else {
          one.state = "failed";
          one.button.classList.add("failed");
          problem(fault.message);
        }
      }
    }
    running = false;
    shape();
    if (!stopped.signal.aborted && items.some((i) => i.state === "waiting")) work();
  }

  function finished(one) {
    const picture = document.createElement("img");
    picture.alt = "";
    picture.src = "results/" + one.result.id + "/thumb.jpg";
    one.button.replaceChildren(picture);
    if (two) one.button.append(part("em", percent(one.result.differing, 0)));
    one.button.setAttribute("aria-label", one.name + (two ? ", the models differ on " + percent(one.result.differing, 0) : ""));
    one.button.disabled = false;
    if (!chosen) choose(one);
    if (byId("order").value !== "given") sort();
  }

  function shape() {
    const ready = items.filter((i) => i.state === "done").length;
    const failed = items.filter((i) => i.state === "failed").length;
    const waiting = items.length - ready - failed;
    byId("drop").classList.toggle("small", items.length > 0);
    byId("clear").hidden = !items.length && byId("problems").hidden;
    byId("pictures").hidden = ready === 0;
    byId("going").hidden = waiting === 0;
    byId("progress").max = Math.max(1, items.length);
    byId("progress").value = ready + failed;
    byId("done").textContent = (ready + failed) + " of " + items.length + (running ? "" : ", stopped");
    byId("stop").textContent = running ? "Stop" : "Go on";
    byId("count").textContent = ready + (ready === 1 ? " image" : " images");
    byId("order-label").hidden = ready < 2;
    byId("all").disabled = waiting > 0 && running;
    roam();
  }

  byId("stop").addEventListener("click", () => { if (running) stopped.abort(); else work(); });
  byId("clear").addEventListener("click", () => {
    if (stopped) stopped.abort();
    items = [];
    chosen = null;
    byId("thumbs").replaceChildren();
    byId("problems").replaceChildren();
    byId("problems").hidden = true;
    shape();
    byId("choose-images").focus();
  });

  /* ---- going from one image to the next ---- */

  const keys = { given: (i) => i.given, differing: (i) => -i.result.differing, sure: (i) => Math.min(...i.result.sure) };
  function sort() {
    const key = keys[byId("order").value], value = (i) => (i.result ? key(i) : Infinity);
    byId("thumbs").append(...[...items].sort((a, b) => value(a) - value(b) || a.given - b.given).map((i) => i.button));
  }
  byId("order").addEventListener("change", sort);

  function roam() {
    const open = items.filter((i) => i.state === "done"), stop = chosen || open[0];
    for (const one of open) one.button.tabIndex = one === stop ? 0 : -1;
  }

  byId("thumbs").addEventListener("keydown", (event) => {
    const open = all(byId("thumbs").children).filter((button) => !button.disabled);
    const at = open.indexOf(document.activeElement);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: open.length - 1 }[event.key];
    if (next === undefined || !open[next]) return;
    event.preventDefault();
    open[next].focus();
    open[next].click();
  });

  async function choose(one) {
    chosen = one;
    for (const other of items) other.button.setAttribute("aria-pressed", String(other === one));
    roam();
    try {
      await viewer.show(one.result);
      if (chosen === one) describe(one.result);
    } catch (fault) {
      problem(one.name + ": " + (fault instanceof TypeError ? "segadapt does not answer any more" : fault.message));
    }
  }

  /* ---- all of them ---- */

  byId("all").addEventListener("click", async () => {
    const button = byId("all"), label = button.textContent;
    const kept = items.filter((i) => i.state === "done").map((i) => i.result.id);
    button.disabled = true;
    button.textContent = "Packing …";
    try {
      const answer = await fetch("archive", { method: "POST", body: JSON.stringify(kept) });
      if (!answer.ok) throw new Error((await answer.json()).error);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = "segadapt.zip";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch (fault) {
      problem("The archive: " + (fault instanceof TypeError ? "segadapt does not answer any more" : fault.message));
    }
    button.disabled = false;
    button.textContent = label;
  });
})();
