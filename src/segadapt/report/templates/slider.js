"use strict";
/* The boundary between two pictures that lie on each other, moved by mouse, touch and keys.

   names() returns what is left and right of it, for people who hear it. The returned function says the names anew. */
function slider(frame, handle, names) {
  let cut = 50;

  function cutAt(percent) {
    cut = Math.min(100, Math.max(0, percent));
    frame.style.setProperty("--cut", cut + "%");
    const shown = Math.round(cut), [left, right] = names();
    handle.setAttribute("aria-valuenow", String(shown));
    handle.setAttribute("aria-valuetext", shown + "% " + left + ", " + (100 - shown) + "% " + right);
  }

  function follow(event) {
    const box = frame.getBoundingClientRect();
    cutAt(100 * (event.clientX - box.left) / box.width);
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || getComputedStyle(handle).display === "none") return;
    frame.setPointerCapture(event.pointerId);
    follow(event);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });

  const keys = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  handle.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    cutAt(cut + keys[event.key] * (event.shiftKey ? 5 : 1));
    event.preventDefault();
  });
  return () => cutAt(cut);
}
