"use strict";
/* Numbers and downloads of the image that is shown. Returns a function that tells them of a result. */
function makeDetails(facts, viewer) {
  const byId = (id) => document.getElementById(id);
  const { models, classes } = facts, { part, chip } = viewer, two = models.length > 1;
  const percent = (part) => (100 * part).toFixed(1) + "%";
  const share = (part) => (part > 0 && part < 0.0005 ? "<0.1%" : percent(part));
  const ids = { own: "your ids", train: "train ids", cityscapes: "Cityscapes ids" }[facts.ids];
  const kinds = { color: "Coloured", index: "Class numbers (" + ids + ")", confidence: "Confidence" };

  function describe(result) {
    const columns = ["Class", ...(two ? [""] : []), ...models.map((model) => model.title), ...(two ? ["Change"] : [])];
    byId("amounts-head").replaceChildren(...columns.map((name, place) => {
      const cell = part("th", name);
      cell.scope = "col";
      cell.className = place === 0 ? "" : name ? "n" : "bar";
      return cell;
    }));
    const first = result.shares[0], last = result.shares[result.shares.length - 1];
    const most = classes.map((_, k) => Math.max(first[k], last[k])), top = Math.max(...most, 1e-9);
    const present = classes.map((_, k) => k).filter((k) => most[k] > 0).sort((a, b) => most[b] - most[a]);
    byId("amounts-body").replaceChildren(...present.map((k) => line(k, first[k], last[k], top)));
    const absent = classes.filter((_, k) => most[k] === 0).map((one) => one.name);
    byId("absent").textContent = absent.length ? "Nowhere: " + absent.join(", ") : "";
    byId("sure").textContent = "Mean confidence: " + models.map((model, place) => model.title + " " + percent(result.sure[place])).join(", ");
    byId("differing").textContent = share(result.differing);
    byId("differing-by").textContent = "of the pixels get another class from " + models[models.length - 1].title;
    const flows = result.flows.map(([a, b, size]) => flow(a, b, size));
    byId("flows").replaceChildren(...flows);
    downloads(result);
  }

  function line(k, first, last, top) {
    const row = document.createElement("tr"), head = part("th", ""), button = part("button", "");
    head.scope = "row";
    button.type = "button";
    button.title = "Show it with or without its colour";
    button.setAttribute("aria-pressed", String(!viewer.isBare(k)));
    button.append(chip(k), classes[k].name);
    button.addEventListener("click", () => {
      viewer.toggle(k);
      button.setAttribute("aria-pressed", String(!viewer.isBare(k)));
    });
    head.append(button);
    row.append(head);
    if (two) {
      const cell = part("td", "");
      cell.className = "bar";
      for (const value of [first, last]) {
        const bar = part("i", "");
        bar.style.width = 100 * value / top + "%";
        cell.append(bar);
      }
      row.append(cell);
    }
    const size = (100 * Math.abs(last - first)).toFixed(1), sign = size === "0.0" ? "" : last > first ? "+" : "−";
    const numbers = two ? [share(first), share(last), sign + size] : [share(last)];
    for (const text of numbers) {
      const cell = part("td", text);
      cell.className = "n";
      row.append(cell);
    }
    return row;
  }

  function flow(a, b, size) {
    const entry = part("li", ""), button = part("button", ""), names = part("span", "");
    names.append(chip(a), classes[a].name, " → ", chip(b), classes[b].name);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(names, part("span", share(size)));
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      for (const other of byId("flows").querySelectorAll("button")) other.setAttribute("aria-pressed", String(on && other === button));
      viewer.flow(on ? [a, b] : null);
    });
    entry.append(button);
    return entry;
  }

  function downloads(result) {
    const name = result.base.split("/").pop();
    byId("downloads").replaceChildren(...models.map((model) => {
      const group = part("div", "");
      group.className = "kinds";
      group.append(part("p", model.title));
      for (const kind of Object.keys(kinds)) {
        const link = part("a", kinds[kind]);
        link.className = "button";
        link.href = "results/" + result.id + "/" + model.key + "-" + kind + ".png";
        link.download = name + (two ? "_" + model.key : "") + facts.kinds[kind];
        group.append(link);
      }
      return group;
    }));
  }

  return describe;
}
