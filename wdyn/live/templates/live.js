// Which parts of this page are old? Asks once a second, and exchanges those.
"use strict";

const PAUSE = 1000; // milliseconds
const top_ = document.getElementById("top");
const reports = document.getElementById("reports");
const hold = document.getElementById("hold");
const lost = document.getElementById("lost");
const shown = { version: -1, pages: 0 };

async function get(name) {
  const reply = await fetch(name, { cache: "no-store" });
  if (!reply.ok) throw new Error(`${name}: ${reply.status}`);
  return reply;
}

async function look() {
  if (!document.hidden) {
    try {
      const state = await (await get("state")).json();
      if (state.version !== shown.version) await renewTop(state.version);
      if (state.pages !== shown.pages && !hold.checked) renewReport(state.pages);
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
  }
  setTimeout(look, PAUSE);
}

async function renewTop(version) {
  // A parsed document runs nothing; the server escaped every name in it.
  const parsed = new DOMParser().parseFromString(await (await get("top")).text(), "text/html");
  top_.replaceChildren(...parsed.body.childNodes);
  document.title = top_.querySelector("h1").dataset.title;
  shown.version = version;
}

function renewReport(pages) {
  const frame = document.createElement("iframe");
  frame.title = "Report";
  frame.className = "coming";
  frame.src = `report?${pages}`;
  frame.addEventListener("load", () => exchange(frame), { once: true });
  for (const late of reports.querySelectorAll(".coming")) late.remove();
  reports.append(frame);
  shown.pages = pages;
}

function exchange(frame) {
  const old = reports.querySelector("iframe:not(.coming)");
  const page = frame.contentDocument;
  if (old) carryOver(old.contentDocument, page);
  const fit = () => { frame.style.height = `${page.documentElement.offsetHeight}px`; };
  fit();
  // Its own observer, and the next frame: to change heights while they are observed is reported as an error.
  new frame.contentWindow.ResizeObserver(() => requestAnimationFrame(fit)).observe(page.documentElement);
  // First the new one, then away with the old: the page keeps its height, and the reader the place.
  frame.className = "";
  if (old) old.remove();
}

function carryOver(from, to) {
  const open = new Set([...from.querySelectorAll("details[open]")].map(place));
  for (const one of to.querySelectorAll("details")) if (open.has(place(one))) one.open = true;
  for (const one of from.querySelectorAll("input[id], select[id]")) {
    const other = to.getElementById(one.id);
    if (!other || (other.value === one.value && other.checked === one.checked)) continue;
    other.value = one.value;
    if ("checked" in one) other.checked = one.checked;
    for (const kind of ["input", "change"]) other.dispatchEvent(new Event(kind, { bubbles: true }));
  }
}

// What a reader would call it: the words before it, and its own.
function place(details) {
  const section = details.closest("section, li");
  const heading = section && section.querySelector("h2, p");
  return `${heading ? heading.textContent : ""} / ${details.querySelector("summary").textContent}`;
}

look();
