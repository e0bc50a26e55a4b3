// What can a reader do with the page? Copy a line, sort and filter tables, point at a map, go through the steps of a
// distribution. Words reach the page as text alone; without this script everything is there but these.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const draw = (tag, attributes) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const chosen = { role: "", stack: "", layer: "" };
  const fits = (of) => Object.entries(chosen).every(([name, wanted]) =>
    !wanted || of[name] === undefined || of[name] === null || String(of[name]) === wanted);
  const whenFiltered = [];

  // Lines of Python are copied by a click.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }
  for (const block of all(".wdyn pre")) {
    const button = make("button", { type: "button", class: "wdyn-copy", "aria-live": "polite" }, "Copy");
    button.addEventListener("click", async () => {
      const done = await copy(block.querySelector("code").textContent);
      if (!done) getSelection().selectAllChildren(block.querySelector("code"));
      button.textContent = done ? "Copied" : "Selected";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.before(make("div", { class: "wdyn-tools" }, button));
  }

  // A heading sorts its table: numbers by size, what is no number last.
  function sort(table, at, numeric, down) {
    const body = table.tBodies[0];
    const key = (row) => {
      const text = row.cells[at].textContent;
      const number = Number(text.replaceAll(",", ""));
      return numeric ? (text === "" || Number.isNaN(number) ? Infinity : down ? -number : number) : text;
    };
    const rows = [...body.rows].map((row) => [key(row), row]);
    if (numeric) rows.sort(([a], [b]) => (a === b ? 0 : a - b));
    else rows.sort(([a], [b]) => (down ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true }));
    body.append(...rows.map(([, row]) => row));
  }
  for (const table of all(".wdyn table")) {
    if (!table.tHead || table.tBodies[0].rows.length < 2) continue;
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, at) => {
      if (!heading.textContent) return;
      const button = make("button", { type: "button", class: "wdyn-sort" }, ...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        sort(table, at, heading.classList.contains("wdyn-number"), down);
      });
    });
  }

  // Rows of tables that name a role, a tower or a layer.
  const listed = [];
  for (const table of all(".wdyn-answer table, .wdyn-finding table")) {
    const names = [...table.tHead.rows[0].cells].map((heading) => heading.textContent);
    const places = Object.keys(chosen).map((name) => [name, names.indexOf(name)]).filter(([, at]) => at >= 0);
    if (!places.length) continue;
    for (const row of table.tBodies[0].rows) {
      const of = Object.fromEntries(places.map(([name, at]) => [name, row.cells[at].textContent]));
      listed.push(of);
      whenFiltered.push(() => { row.hidden = !fits(of); });
    }
  }

  // A map tells what is under the pointer, and pales what is filtered out.
  const place = (borders, at) => {
    const up = borders[borders.length - 1] >= borders[0];
    const after = borders.findIndex((border) => (up ? border > at : border < at));
    return after > 0 ? after - 1 : -1;
  };
  const box = (layer, left, top, right, bottom) => {
    const made = make("div", { class: "wdyn-pale" });
    made.style.left = `${100 * Math.min(left, right)}%`;
    made.style.top = `${100 * Math.min(top, bottom)}%`;
    made.style.width = `${100 * Math.abs(right - left)}%`;
    made.style.height = `${100 * Math.abs(bottom - top)}%`;
    layer.append(made);
  };
  const words = (map, row, column) => {
    const value = map.values[row][column];
    const of = map.rows[row];
    const where = of.layer === null || of.layer < 0 || of.label.includes("layer") ? "" : ` (${of.role}, layer ${of.layer})`;
    return `${of.label}${where}\n${map.over} ${map.columns[column]}\n${map.what}: ${value === null ? "none, NaN or infinite" : value}`;
  };
  for (const data of all(".wdyn figure > .wdyn-maps")) {
    const maps = JSON.parse(data.textContent);
    const plot = data.parentElement.querySelector(".wdyn-plot");
    const tip = make("div", { class: "wdyn-tip", hidden: "" });
    const layer = make("div", { class: "wdyn-over", "aria-hidden": "true" });
    plot.append(layer, tip);
    plot.addEventListener("pointermove", (event) => {
      const frame = plot.getBoundingClientRect();
      const x = (event.clientX - frame.left) / frame.width;
      const y = (event.clientY - frame.top) / frame.height;
      for (const map of maps) {
        const row = place(map.y, y), column = place(map.x, x);
        if (row < 0 || column < 0) continue;
        tip.textContent = words(map, row, column);
        tip.hidden = false;
        tip.style.left = `${Math.max(0, Math.min(event.clientX - frame.left + 12, frame.width - tip.offsetWidth))}px`;
        tip.style.top = `${event.clientY - frame.top + 16}px`;
        return;
      }
      tip.hidden = true;
    });
    plot.addEventListener("pointerleave", () => { tip.hidden = true; });
    for (const map of maps) {
      for (const row of map.rows) {
        if (map.over === "layer") map.columns.forEach((number) => listed.push({ ...row, layer: number }));
        else listed.push(row);
      }
    }
    whenFiltered.push(() => {
      layer.replaceChildren();
      for (const map of maps) {
        const [left, right] = [map.x[0], map.x[map.x.length - 1]];
        map.rows.forEach((row, at) => {
          if (!fits(row)) box(layer, left, map.y[at], right, map.y[at + 1]);
          else if (map.over === "layer") {
            map.columns.forEach((number, column) => {
              if (!fits({ layer: number })) box(layer, map.x[column], map.y[at], map.x[column + 1], map.y[at + 1]);
            });
          }
        });
      }
    });
  }

  // The shape of each role's values at one step, over that at the first.
  function line(x, y, reach, top) {
    const at = (value, point) => `${(50 * (1 + x[point] / reach)).toFixed(2)},${(40 - (36 * value) / top).toFixed(2)}`;
    return y.map((value, point) => at(value ?? 0, point)).join(" ");
  }
  for (const data of all(".wdyn-shapes")) {
    const roles = JSON.parse(data.textContent);
    const steps = [...new Set(roles.flatMap((role) => role.steps))].sort((a, b) => a - b);
    const label = make("output", { for: "wdyn-step" });
    const slider = make("input", {
      type: "range", id: "wdyn-step", min: 0, max: steps.length - 1, value: steps.length - 1, step: 1,
    });
    const panels = make("div", { class: "wdyn-shapes-grid" });
    const drawn = roles.map((role) => {
      const reach = Math.max(...role.x.map(Math.abs));
      const top = Math.max(...role.y.flat().map((value) => value ?? 0)) || 1;
      const picture = draw("svg", { viewBox: "0 0 100 42", role: "img", "aria-label": `Distribution of ${role.label}` });
      const first = draw("polyline", { class: "wdyn-first", points: line(role.x, role.y[0], reach, top) });
      const now = draw("polyline", { class: "wdyn-now" });
      picture.append(first, now);
      const range = make("p", { class: "wdyn-range" }, make("span", {}, `−${reach.toPrecision(2)}`),
        make("span", {}, "0"), make("span", {}, reach.toPrecision(2)));
      const panel = make("div", {}, make("h4", {}, role.label), picture, range);
      panels.append(panel);
      whenFiltered.push(() => { panel.hidden = !fits({ role: role.role, stack: role.stack }); });
      return (step) => {
        const at = Math.max(0, role.steps.findLastIndex((own) => own <= step));
        now.setAttribute("points", line(role.x, role.y[at], reach, top));
      };
    });
    const show = () => {
      const step = steps[Number(slider.value)];
      label.textContent = String(step);
      slider.setAttribute("aria-valuetext", `step ${step}`);
      drawn.forEach((to) => to(step));
    };
    slider.addEventListener("input", show);
    show();
    data.after(make("div", { class: "wdyn-slide" }, make("h3", {}, "Step by step"),
      make("p", {}, make("label", { for: "wdyn-step" }, "Step "), label, slider),
      panels, make("p", { class: "wdyn-muted" }, `Dashed: at step ${steps[0]}. Heights are shares by unit of value.`)));
  }

  // The choice of role, tower and layer, where there is one to make.
  const bar = document.querySelector(".wdyn-filter");
  const told = make("span", { role: "status" });
  const choices = Object.keys(chosen).map((name) => {
    const values = [...new Set(listed.map((of) => of[name]).filter((one) => one !== undefined && one !== null && one !== ""))];
    const kept = [...new Set(values.map(String))].filter((one) => name !== "layer" || Number(one) >= 0);
    return [name, kept.sort((a, b) => a.localeCompare(b, undefined, { numeric: true }))];
  }).filter(([, values]) => values.length > 1);
  if (bar && choices.length) {
    const filter = () => {
      whenFiltered.forEach((apply) => apply());
      const rows = all(".wdyn-answer tbody tr");
      const shown = rows.filter((row) => !row.hidden).length;
      told.textContent = Object.values(chosen).some(Boolean) ? `${shown} of ${rows.length} rows of tables shown` : "";
    };
    const group = make("div", { role: "group", "aria-label": "Filter figures and tables", class: "wdyn-choices" }, "Show");
    for (const [name, values] of choices) {
      const select = make("select", { id: `wdyn-by-${name}` }, make("option", { value: "" }, "all"));
      values.forEach((value) => select.append(make("option", { value }, value)));
      select.addEventListener("change", () => { chosen[name] = select.value; filter(); });
      group.append(make("label", { for: `wdyn-by-${name}` }, `${name} `, select));
    }
    bar.append(group, told);
  }
})();
