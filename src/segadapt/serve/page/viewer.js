"use strict";
/* One image and what the models make of it: layers over the image, and what is at a point.

   The server sends two PNG files of numbers: the class of each pixel, and 255 times its confidence; red is the first
   model, green the second. Everything that is seen is painted of these here. */
function makeViewer(facts) {
  const byId = (id) => document.getElementById(id);
  const NOTHING = 255;
  const STOPS = ["440154", "3b528b", "21918c", "5ec962", "fde725"];
  const frame = byId("frame"), readout = byId("readout"), cross = byId("cross");
  const canvases = [byId("left"), byId("right")].slice(0, facts.models.length);
  const bases = [byId("base"), byId("base-right")];
  const tags = [byId("left-tag"), byId("right-tag")];
  const strengths = { label: 65, difference: 90, confidence: 85, image: 0 };
  const state = { view: "label", side: false, bare: new Set(), flow: null, point: null };
  let shown = null;

  const words = (list) => new Uint32Array(new Uint8ClampedArray(list.flat()).buffer);
  const colors = words(Array.from({ length: 256 }, (_, k) => (k < facts.classes.length ? [...facts.classes[k].color, 255] : [0, 0, 0, 0])));
  const heat = words(Array.from({ length: 256 }, (_, k) => {
    const at = (k / 255) * (STOPS.length - 1), low = Math.min(Math.floor(at), STOPS.length - 2);
    const part = (stop, i) => parseInt(STOPS[stop].slice(2 * i, 2 * i + 2), 16);
    return [0, 1, 2].map((i) => part(low, i) + (at - low) * (part(low + 1, i) - part(low, i))).concat(255);
  }));

  frame.classList.toggle("alone", facts.models.length === 1);
  const sayCut = slider(frame, byId("handle"), () => facts.models.map((model) => model.title));

  /* Numbers must arrive as they are: no colour profile and no transparency may change them. */
  async function numbers(address) {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const bitmap = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  }

  async function show(result) {
    const [labels, confidence] = await Promise.all(
      ["labels.png", "confidence.png"].map((name) => numbers("results/" + result.id + "/" + name)));
    shown = { result, labels, confidence };
    state.flow = null;
    state.point = null;
    for (const base of bases) {
      base.width = labels.width;
      base.height = labels.height;
      base.src = "results/" + result.id + "/image.jpg";
    }
    bases[0].alt = "Image " + result.name;
    frame.style.setProperty("--aspect", labels.width / labels.height);
    tell();
    paint();
  }

  /* ---- painting ---- */

  function colour(which, i) {
    const data = shown.labels.data, label = data[4 * i + which];
    if (state.view === "confidence") return label === NOTHING ? 0 : heat[shown.confidence.data[4 * i + which]];
    if (state.view === "difference") {
      if (data[4 * i] === data[4 * i + 1]) return 0;
      if (state.flow && (data[4 * i] !== state.flow[0] || data[4 * i + 1] !== state.flow[1])) return 0;
      return colors[label];
    }
    return state.bare.has(label) ? 0 : colors[label];
  }

  function paint() {
    if (!shown) return;
    const { width, height } = shown.labels;
    canvases.forEach((canvas, which) => {
      canvas.width = width;
      canvas.height = height;
      const picture = new ImageData(width, height), pixels = new Uint32Array(picture.data.buffer);
      if (state.view !== "image") for (let i = 0; i < pixels.length; i++) pixels[i] = colour(which, i);
      canvas.getContext("2d").putImageData(picture, 0, 0);
    });
    frame.classList.toggle("whole", state.view === "image");
    frame.classList.toggle("side", state.side && facts.models.length > 1);
    frame.classList.toggle("muted", state.view === "difference");
    frame.classList.toggle("smooth", state.view === "confidence");
    frame.style.setProperty("--strength", strengths[state.view] / 100);
    byId("scale").hidden = state.view !== "confidence";
    byId("opacity").disabled = state.view === "image";
    byId("opacity").value = strengths[state.view];
    byId("opacity-value").textContent = strengths[state.view] + "%";
    tags.slice(0, facts.models.length).forEach((tag, which) => {
      tag.textContent = state.view === "image" ? "Image" : facts.models[which].title;
    });
    sayCut();
    tell();
  }

  /* ---- what is at a point ---- */

  function part(name, text) {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  }

  function chip(label) {
    const made = part("span", "");
    made.className = "chip";
    made.style.setProperty("--chip", label < facts.classes.length ? "rgb(" + facts.classes[label].color + ")" : "transparent");
    return made;
  }

  function tell() {
    readout.replaceChildren();
    cross.hidden = !state.point || document.activeElement !== readout;
    if (!shown) return;
    if (!state.point) {
      const hint = matchMedia("(hover: none)").matches ? "Touch the picture to read the class of a pixel."
        : "Point at a pixel to read its class; or press Tab to come here, and use the arrow keys.";
      readout.append(part("span", hint));
      return;
    }
    const { labels, confidence, result } = shown, [x, y] = state.point, i = 4 * (y * labels.width + x);
    const full = [x * result.width / labels.width, y * result.height / labels.height].map(Math.floor);
    readout.append(part("span", "x " + full[0] + ", y " + full[1]));
    facts.models.forEach((model, which) => {
      const label = labels.data[i + which], line = part("span", model.title + ": ");
      if (label === NOTHING) line.append("no data");
      else line.append(chip(label), part("b", facts.classes[label].name), " " + Math.round(confidence.data[i + which] / 2.55) + "%");
      readout.append(line);
    });
    cross.style.left = bases[0].offsetLeft + bases[0].offsetWidth * (x + 0.5) / labels.width + "px";
    cross.style.top = bases[0].offsetTop + bases[0].offsetHeight * (y + 0.5) / labels.height + "px";
  }

  function pointAt(x, y) {
    const inside = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));
    state.point = [inside(x, shown.labels.width), inside(y, shown.labels.height)];
    tell();
  }

  for (const kind of ["pointermove", "pointerdown"]) frame.addEventListener(kind, (event) => { // a finger only taps
    if (!shown) return;
    const boxes = bases.map((base) => base.getBoundingClientRect()).filter((box) => box.width > 0);
    const within = (box) => event.clientX >= box.left && event.clientX < box.right && event.clientY >= box.top && event.clientY < box.bottom;
    const box = boxes.find(within);
    if (box) pointAt((event.clientX - box.left) / box.width * shown.labels.width, (event.clientY - box.top) / box.height * shown.labels.height);
  });

  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  readout.addEventListener("keydown", (event) => {
    if (!shown || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = shown.labels, far = event.shiftKey ? Math.max(1, Math.round(width / 20)) : 1;
    const [x, y] = state.point || [width >> 1, height >> 1];
    pointAt(x + far * steps[event.key][0], y + far * steps[event.key][1]);
    event.preventDefault();
  });
  for (const kind of ["focus", "blur"]) readout.addEventListener(kind, tell);

  /* ---- controls ---- */

  function press(buttons, chosen) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
  }

  const views = Array.from(document.querySelectorAll("[data-view]"));
  function view(name) {
    state.view = name;
    press(views, views.find((button) => button.dataset.view === name));
    paint();
  }
  for (const button of views) {
    button.hidden = button.dataset.view === "difference" && facts.models.length === 1;
    button.addEventListener("click", () => view(button.dataset.view));
  }
  const layouts = Array.from(document.querySelectorAll("[data-layout]"));
  byId("layout").hidden = facts.models.length === 1;
  for (const button of layouts) button.addEventListener("click", () => {
    state.side = button.dataset.layout === "side";
    press(layouts, button);
    paint();
  });
  byId("opacity").addEventListener("input", (event) => {
    strengths[state.view] = Number(event.target.value);
    frame.style.setProperty("--strength", event.target.value / 100);
    byId("opacity-value").textContent = event.target.value + "%";
  });

  return {
    show,
    chip,
    part,
    get result() { return shown && shown.result; },
    isBare: (label) => state.bare.has(label),
    toggle(label) {
      if (!state.bare.delete(label)) state.bare.add(label);
      if (state.view === "label") paint(); else view("label");
    },
    flow(pair) {
      state.flow = pair;
      view("difference");
    },
  };
}
