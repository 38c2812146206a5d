"use strict";
(function () {
  const byId = (id) => document.getElementById(id);
  const assets = JSON.parse(byId("assets").textContent);
  const data = JSON.parse(byId("viewer-data").textContent);
  document.documentElement.classList.add("js");

  /* Pictures take their content from one store, so that equal pictures are stored once. */
  for (const image of document.querySelectorAll("img[data-asset]")) {
    image.src = assets[image.dataset.asset];
  }

  /* ---- choices that show one of several panels ---- */

  for (const select of document.querySelectorAll("select[data-panels]")) {
    const panels = document.getElementsByClassName(select.dataset.panels);
    select.addEventListener("change", () => {
      Array.from(panels).forEach((panel, place) => { panel.hidden = place !== Number(select.value); });
    });
  }

  function press(buttons, chosen) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
  }

  for (const group of document.querySelectorAll("[data-rounds]")) {
    const buttons = Array.from(group.children);
    const rounds = Array.from(group.parentElement.getElementsByClassName("round"));
    buttons.forEach((button, chosen) => button.addEventListener("click", () => {
      press(buttons, button);
      rounds.forEach((round, place) => round.toggleAttribute("data-later", place !== chosen));
    }));
  }

  const sort = byId("sort");
  if (sort) {
    const value = (row) => {
      const text = row.dataset[sort.value];
      return text === "" ? -Infinity : Number(text);
    };
    const apply = () => {
      for (const body of document.querySelectorAll("table.classes tbody")) {
        body.append(...Array.from(body.rows).sort((a, b) => (value(a) === value(b) ? 0 : value(b) - value(a))));
      }
    };
    sort.addEventListener("change", apply);
    apply();
  }

  /* ---- features of some classes only ---- */

  for (const legend of document.querySelectorAll("[data-picks]")) {
    const drawings = document.getElementById(legend.dataset.picks).querySelectorAll(".scatter");
    const buttons = Array.from(legend.querySelectorAll("button"));
    const picked = new Set();
    const apply = () => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(picked.has(button.dataset.class)));
      for (const drawing of drawings) {
        drawing.classList.toggle("picked", picked.size > 0);
        for (const path of drawing.children) path.classList.toggle("pick", picked.has(path.dataset.class));
      }
    };
    for (const button of buttons) button.addEventListener("click", () => {
      if (!picked.delete(button.dataset.class)) picked.add(button.dataset.class);
      apply();
    });
  }

  if (!data) return;

  /* ---- before and after ---- */

  const frame = byId("frame"), handle = byId("handle"), opacity = byId("opacity");
  const layers = { left: byId("left"), right: byId("right") };
  const tags = { left: byId("left-tag"), right: byId("right-tag") };
  const titles = new Map(data.stages.map((stage) => [stage.key, stage.title]));
  const strengths = { label: 65, confidence: 85, mistakes: 85, truth: 65, image: 0 };
  const state = { picture: 0, view: "label", left: data.left, right: data.right };

  const sayCut = slider(frame, handle, () => [tags.left.textContent, tags.right.textContent]);

  /* ---- comparison with the truth, pixel by pixel, in the browser ---- */

  const decoded = new Map();
  function pixels(key) {
    if (!decoded.has(key)) {
      const image = new Image();
      image.src = assets[key];
      decoded.set(key, image.decode().then(() => {
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth;
        canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, canvas.width, canvas.height);
      }));
    }
    return decoded.get(key);
  }

  const compared = new Map();
  async function compare(label, truth) {
    const [mine, right] = await Promise.all([pixels(label), pixels(truth)]);
    if (mine.width !== right.width || mine.height !== right.height) return null;
    const a = new Uint32Array(mine.data.buffer), b = new Uint32Array(right.data.buffer);
    const wrong = new ImageData(right.width, right.height);
    const paint = new Uint32Array(wrong.data.buffer);
    const red = new Uint32Array(new Uint8ClampedArray([230, 40, 40, 255]).buffer)[0];
    let known = 0, missed = 0;
    for (let i = 0; i < b.length; i++) {
      if (right.data[4 * i + 3] < 128) continue;
      known++;
      if (a[i] !== b[i]) { missed++; paint[i] = red; }
    }
    const canvas = document.createElement("canvas");
    canvas.width = right.width;
    canvas.height = right.height;
    canvas.getContext("2d").putImageData(wrong, 0, 0);
    return { share: known ? 1 - missed / known : null, picture: canvas.toDataURL() };
  }
  function comparison(picture, stage) {
    const label = (picture.stages[stage] || {}).label;
    if (!label || !picture.truth) return Promise.resolve(null);
    const key = label + picture.truth;
    if (!compared.has(key)) compared.set(key, compare(label, picture.truth).catch(() => null));
    return compared.get(key);
  }

  /* ---- classes without colour ---- */

  const switches = Array.from(byId("class-legend").querySelectorAll("button"));
  const bare = new Set();
  function readSwitches() {
    bare.clear();
    for (const button of switches) {
      if (button.getAttribute("aria-pressed") === "false") bare.add(button.dataset.color);
    }
  }
  for (const button of switches) button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") === "false"));
    readSwitches();
    show();
  });
  readSwitches();

  const stripped = new Map();
  function withoutBare(key) {
    const name = [key, ...bare].join(" ");
    if (!stripped.has(name)) stripped.set(name, pixels(key).then((source) => {
      const kept = new ImageData(new Uint8ClampedArray(source.data), source.width, source.height);
      const hidden = new Set(Array.from(bare, (color) => {
        const [r, g, b] = color.split(",").map(Number);
        return (r << 16) | (g << 8) | b;
      }));
      const d = kept.data;
      for (let i = 0; i < d.length; i += 4) {
        if (hidden.has((d[i] << 16) | (d[i + 1] << 8) | d[i + 2])) d[i + 3] = 0;
      }
      const canvas = document.createElement("canvas");
      canvas.width = kept.width;
      canvas.height = kept.height;
      canvas.getContext("2d").putImageData(kept, 0, 0);
      return canvas.toDataURL();
    }));
    return stripped.get(name);
  }

  /* ---- showing ---- */

  function fill(layer, source) {
    layer.hidden = !source;
    if (source) layer.src = source; else layer.removeAttribute("src");
  }

  let turn = 0;
  async function show() {
    const mine = ++turn;
    const picture = data.pictures[state.picture];
    const whole = state.view === "image" || state.view === "truth";
    const base = byId("base");
    base.width = picture.width;
    base.height = picture.height;
    base.alt = "Test image " + picture.id;
    base.src = assets[picture.image];
    frame.style.setProperty("--aspect", picture.width / picture.height);
    frame.classList.toggle("whole", whole);
    frame.classList.toggle("smooth", state.view === "confidence");
    frame.style.setProperty("--strength", strengths[state.view] / 100);
    opacity.disabled = state.view === "image";
    opacity.value = strengths[state.view];
    byId("opacity-value").textContent = strengths[state.view] + "%";
    byId("confidence-scale").hidden = state.view !== "confidence";
    byId("mistake-note").hidden = state.view !== "mistakes";
    byId("class-legend").hidden = state.view === "confidence" || state.view === "mistakes";
    const coloured = {};
    for (const side of ["left", "right"]) {
      const stage = picture.stages[state[side]];
      const missing = !whole && !(stage && stage[state.view === "confidence" ? "confidence" : "label"]);
      tags[side].textContent = (titles.get(state[side]) || "Image") + (missing && state[side] ? " (no picture)" : "");
      const none = state.view === "mistakes" || state.view === "image" || missing;
      const key = none ? null : state.view === "truth" ? picture.truth : stage[state.view];
      if (key && bare.size && state.view !== "confidence") coloured[side] = key;
      else fill(layers[side], assets[key]);
    }
    if (whole) tags.left.textContent = state.view === "image" ? "Image" : picture.truth ? "Truth" : "Truth unknown";
    sayCut();
    for (const side in coloured) {
      const source = await withoutBare(coloured[side]);
      if (mine !== turn) return;
      fill(layers[side], source);
    }
    const found = {};
    for (const side of ["left", "right"]) found[side] = await comparison(picture, state[side]);
    if (mine !== turn) return;
    if (state.view === "mistakes") {
      for (const side of ["left", "right"]) fill(layers[side], found[side] && found[side].picture);
    }
    tell(found);
  }

  function tell(found) {
    const line = byId("agreement");
    line.textContent = "";
    const parts = ["left", "right"].filter((side) => found[side] && found[side].share !== null);
    if (!parts.length) return;
    line.append("Pixels right in this picture: ");
    parts.forEach((side, place) => {
      const number = document.createElement("b");
      number.textContent = (100 * found[side].share).toFixed(1) + "%";
      line.append(place ? ", " : "", (titles.get(state[side]) || "") + " ", number);
    });
  }

  const views = Array.from(document.querySelectorAll("[data-view]"));
  for (const button of views) {
    button.addEventListener("click", () => {
      state.view = button.dataset.view;
      press(views, button);
      show();
    });
  }
  opacity.addEventListener("input", () => {
    strengths[state.view] = Number(opacity.value);
    frame.style.setProperty("--strength", opacity.value / 100);
    byId("opacity-value").textContent = opacity.value + "%";
  });
  for (const side of ["left", "right"]) {
    const select = byId(side + "-stage");
    if (!select) continue;
    for (const stage of data.stages) select.append(new Option(stage.title, stage.key, false, stage.key === state[side]));
    select.addEventListener("change", () => { state[side] = select.value; show(); });
  }

  const thumbs = data.pictures.map((picture, place) => {
    const button = document.createElement("button");
    const image = document.createElement("img");
    button.type = "button";
    button.title = picture.id;
    button.setAttribute("aria-label", "Test image " + picture.id);
    button.setAttribute("aria-pressed", String(place === 0));
    image.alt = "";
    image.src = assets[picture.thumb];
    button.append(image);
    button.addEventListener("click", () => { state.picture = place; press(thumbs, button); show(); });
    return button;
  });
  byId("thumbs").append(...thumbs);
  byId("viewer").hidden = false;
  show();
})();
