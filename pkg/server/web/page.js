// What the page does by itself: it follows a run, finds hosts in the grid, and
// moves there by the arrow keys. Without it the page can be read all the same.
"use strict";

// A link from a terminal carries the token behind the #, which no request sends.
const login = document.getElementById("login");
if (login && location.hash.length > 1) {
  login.elements.token.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, "", location.pathname + location.search);
  login.submit();
}

const words = {};
for (const o of document.querySelectorAll("#state option[data-letter]")) words[o.dataset.letter] = o.textContent;

const run = document.getElementById("run");
// What stops a run is there for who may, and as long as there is something to stop.
const controls = document.getElementById("controls");
const plays = run ? [...run.querySelectorAll(".play")].map((p) => [...p.querySelectorAll(".cells > a")]) : [];

// follow keeps the page as the run stands.
function follow() {
  const source = new EventSource(run.dataset.live);
  source.addEventListener("standing", (e) => {
    const now = JSON.parse(e.data);
    for (const [id, html] of Object.entries(now.parts)) {
      const part = document.getElementById(id);
      if (part.dataset.was !== html) {
        part.dataset.was = html;
        // The server has escaped what is in it.
        part.innerHTML = html;
      }
    }
    now.cells.forEach((letters, p) => {
      const cells = plays[p] || [];
      for (let i = 0; i < cells.length; i++) {
        const c = cells[i];
        if (c.classList[0] === letters[i]) continue;
        c.classList.replace(c.classList[0], letters[i]);
        c.title = c.title.slice(0, c.title.lastIndexOf(": ")) + ": " + words[letters[i]];
      }
    });
    if (controls) controls.hidden = !now.live;
    document.body.classList.remove("stale");
    find();
  });
  // What is shown is no longer so: the server is gone, or does not answer.
  source.addEventListener("error", () => document.body.classList.add("stale"));
}

// find shows which cells match what is typed.
const q = document.getElementById("q"), state = document.getElementById("state"), matches = document.getElementById("matches");
function find() {
  const name = q.value.trim().toLowerCase();
  const letter = state.selectedOptions[0].dataset.letter || "";
  const any = name !== "" || letter !== "";
  const hosts = new Set();
  for (const cells of plays) {
    for (const c of cells) {
      const host = c.title.slice(0, c.title.lastIndexOf(": "));
      const hit = host.toLowerCase().includes(name) && (letter === "" || c.classList[0] === letter);
      c.classList.toggle("out", any && !hit);
      if (hit) hosts.add(host);
    }
  }
  matches.textContent = any ? hosts.size + (hosts.size === 1 ? " host" : " hosts") : "";
}

// move goes from cell to cell by the arrow keys: one stop of the tab key for all
// cells of a batch.
function move(e) {
  const cell = e.target.closest(".cells > a");
  if (!cell) return;
  const cells = [...cell.parentElement.children];
  const i = cells.indexOf(cell);
  const row = Math.max(1, cells.findIndex((c, n) => n > 0 && c.offsetTop !== cells[0].offsetTop));
  const to = { ArrowRight: i + 1, ArrowLeft: i - 1, ArrowDown: i + row, ArrowUp: i - row, Home: 0, End: cells.length - 1 }[e.key];
  if (to === undefined || !cells[to]) return;
  e.preventDefault();
  cell.tabIndex = -1;
  cells[to].tabIndex = 0;
  cells[to].focus();
}

if (run) {
  q.addEventListener("input", find);
  state.addEventListener("change", find);
  run.addEventListener("keydown", move);
  document.addEventListener("keydown", (e) => {
    if (e.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      e.preventDefault();
      q.focus();
    }
  });
  find();
  follow();
}
