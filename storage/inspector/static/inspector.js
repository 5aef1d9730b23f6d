// Two comforts that the pages do without where scripts are off: a page of a running run renews itself, and a chart
// tells the numbers under the pointer. Everything here reads what the server rendered.
"use strict";

const main = () => document.getElementById("main");
const pulse = document.getElementById("pulse");
let waiting = 0;

// What a reader has opened, focused or scrolled inside `main`, by its place in the page.
function path(node) {
  const steps = [];
  for (; node && node !== main(); node = node.parentElement) {
    if (node.id) { steps.unshift("#" + CSS.escape(node.id)); return steps.join(" > "); }
    steps.unshift(`${node.tagName}:nth-child(${[...node.parentElement.children].indexOf(node) + 1})`);
  }
  return ["#main", ...steps].join(" > ");
}
function remember() {
  const inside = main().contains(document.activeElement) && document.activeElement !== main();
  return {
    focus: inside ? path(document.activeElement) : null,
    opened: [...main().querySelectorAll("details")].map((one) => [path(one), one.open]),
    scrolled: [...main().querySelectorAll(".scroll")].filter((one) => one.scrollLeft || one.scrollTop)
      .map((one) => [path(one), one.scrollLeft, one.scrollTop]),
  };
}
function restore(kept) {
  for (const [where, open] of kept.opened) {
    const one = document.querySelector(where);
    if (one && one.tagName === "DETAILS") one.open = open;
  }
  for (const [where, left, top] of kept.scrolled) document.querySelector(where)?.scrollTo(left, top);
  if (kept.focus) document.querySelector(kept.focus)?.focus({ preventScroll: true });
}

async function renew() {
  try {
    // 304: nothing was written since this page was made
    const answer = await fetch(location.href, { headers: { accept: "text/html", "if-none-match": main().dataset.tag } });
    const text = await answer.text();
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
    const chosen = !(getSelection()?.isCollapsed ?? true);
    if (answer.ok && !typing && !chosen) {
      const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("main");
      const kept = remember();
      const at = scrollY;
      main().replaceWith(document.adoptNode(fresh));
      restore(kept);
      scrollTo(0, at);
    }
    say(answer.ok || answer.status === 304 ? "live" : "no answer");
  } catch {
    say("no answer");
  }
  schedule();
}
function say(word) {
  pulse.classList.toggle("on", word === "live");
  if (pulse.textContent !== word) pulse.textContent = word; // not announced again and again
}
function schedule() {
  clearTimeout(waiting);
  const every = Number(main().dataset.live);
  if (every && !document.hidden) waiting = setTimeout(renew, 1000 * every);
  else if (!every && pulse.textContent) say("");
}
if (main().dataset.live) say("live");
document.addEventListener("visibilitychange", schedule);
schedule();

// Charts: the row of the table of numbers that is nearest to the pointer.
const MARGIN = 0.02 / 1.04; // pygal leaves this share of the plot free on either side
function clear(drawing) {
  drawing.querySelectorAll(".readout, .guide-line").forEach((one) => one.remove());
}
function tell(drawing, x) {
  const svg = drawing.querySelector("svg[data-plot]");
  const table = drawing.closest("[data-chart]")?.querySelector(".numbers table");
  if (!svg || !table) return;
  const [left, wide] = svg.dataset.plot.split(" ").map(Number);
  const box = svg.getBoundingClientRect();
  const scale = box.width / Number(svg.dataset.wide);
  const wanted = (((x - box.left) / scale - left) / wide - MARGIN) / (1 - 2 * MARGIN);
  const rows = [...table.tBodies[0].rows];
  const row = rows.reduce((best, one) =>
    Math.abs(one.dataset.x - wanted) < Math.abs(best.dataset.x - wanted) ? one : best, rows[0]);
  clear(drawing);
  const at = (left + wide * (MARGIN + row.dataset.x * (1 - 2 * MARGIN))) * scale;
  const guide = Object.assign(document.createElement("span"), { className: "guide-line" });
  guide.style.left = `${at}px`;
  const told = Object.assign(document.createElement("span"), { className: "readout" });
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const cells = [...row.cells].map((cell) => cell.textContent);
  told.append(`${heads[0]} ${cells[0]}`);
  cells.slice(1).forEach((cell, index) => {
    told.append(document.createElement("br"), heads.length > 2 ? `${heads[index + 1]} ${cell}` : cell);
  });
  drawing.append(guide, told);
  const over = at > box.width / 2;
  told.style.left = over ? "auto" : `${at + 8}px`;
  told.style.right = over ? `${box.width - at + 8}px` : "auto";
}
document.addEventListener("pointermove", (event) => {
  const drawing = event.target.closest?.("[data-chart] .drawing");
  document.querySelectorAll(".drawing:has(.readout)").forEach((one) => one !== drawing && clear(one));
  if (drawing) tell(drawing, event.clientX);
});
