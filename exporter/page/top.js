// SPDX-License-Identifier: Apache-2.0
// The live view: asks, shows, waits; and what keys and buttons do.

import { Details } from "./details.js";
import * as format from "./format.js";
import * as plot from "./plot.js";
import { Table } from "./table.js";
import { usualOrder, VIEWS } from "./views.js";

const POINTS = 150;
const SOON = 700;
const STEP = 100;
const MOST = 1000;
const THEMES = ["system", "light", "dark"];

const $ = (id) => document.getElementById(id);
const chosen = {
  view: VIEWS[0],
  sorts: {}, // by view: [column, order]
  search: "",
  limit: STEP,
  seconds: 2,
  bits: false,
  paused: false,
};
let answer = null;
let timer = 0;
let asking = null;

const table = new Table($("titles"), $("rows"), { sort: sortBy, open });
const details = new Details($("details"));
plot.prepare($("plot"), 900, 120);

// What was chosen is in the address, so that it can be kept and passed on.

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  const view = VIEWS.find(({ noun }) => noun === kept.get("view")) ?? VIEWS[0];
  chosen.search = (kept.get("search") ?? "").slice(0, 256);
  const sort = kept.get("sort");
  if (view.columns.some((column) => column.sort && column.sort === sort)) {
    const order = kept.get("order");
    chosen.sorts[view.noun] = [sort, ["ascending", "descending"].includes(order) ? order : usualOrder(sort)];
  }
  chosen.view = view;
}

function remember() {
  const kept = new URLSearchParams({ view: chosen.view.noun });
  const [sort, order] = sorted();
  if (chosen.sorts[chosen.view.noun]) {
    kept.set("sort", sort);
    kept.set("order", order);
  }
  if (chosen.search) kept.set("search", chosen.search);
  history.replaceState(null, "", `#${kept}`);
}

function sorted() {
  const usual = chosen.view.noun === "exits" ? "end_time_seconds" : "rates.bytes";
  return chosen.sorts[chosen.view.noun] ?? [usual, "descending"];
}

// Asking

async function ask() {
  clearTimeout(timer);
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  const [sort, order] = sorted();
  const asked = new URLSearchParams({
    sort, order, limit: chosen.limit, history: POINTS,
  });
  if (chosen.search) asked.set("search", chosen.search);
  const limit = setTimeout(() => mine.abort(new Error("no answer in 10 seconds")), 10_000);
  try {
    const found = await fetch(`api/v1/top/${chosen.view.noun}?${asked}`, { signal: mine.signal, cache: "no-store" });
    if (!found.ok) throw new Error((await found.text()).trim() || `status ${found.status}`);
    const news = await found.json();
    if (asking !== mine) return;
    answer = news;
    fail("");
    show();
  } catch (error) {
    if (asking !== mine) return;
    fail(error.message);
  } finally {
    clearTimeout(limit);
    if (asking === mine) {
      asking = null;
      wait();
    }
  }
}

function wait() {
  clearTimeout(timer);
  if (chosen.paused || document.hidden) return;
  // One sample has no rates: the second one is not waited for.
  const soon = answer && answer.interval_seconds === null;
  timer = setTimeout(ask, soon ? SOON : chosen.seconds * 1000);
}

function fail(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text && `The exporter does not answer: ${format.visible(text)}. Trying again.`;
  state(text ? "failing" : chosen.paused ? "paused" : "live");
}

function state(name) {
  $("state").className = `state ${name}`;
  const words = { live: "live", paused: "paused", failing: "no answer" };
  if ($("state-text").textContent !== words[name]) $("state-text").textContent = words[name];
}

// Showing

function show() {
  if (!answer || answer.view !== chosen.view.noun) return;
  const rates = answer.rows.map((row) => row.rates).filter(Boolean);
  const look = {
    bits: chosen.bits,
    ages: answer.age_seconds,
    highest: Math.max(1, ...rates.flatMap((rate) => [rate.receive_bytes, rate.transmit_bytes])),
  };
  table.mark(answer.sort, answer.order);
  table.show(answer.rows, look);
  $("caption").textContent = `${chosen.view.title}, by ${answer.sort}, ${answer.order}`;
  showSums(look);
  showCounts();
  if (details.key) {
    details.show(answer.rows.find((row) => keyed(row) === details.key), look);
  }
}

const keyed = (row) => JSON.stringify(chosen.view.key.map((field) => row[field] ?? null));

function showSums(look) {
  const { rates, history: past } = answer.total;
  for (const direction of ["receive", "transmit"]) {
    const [text, unit] = rates ? format.rate(rates[`${direction}_bytes`], look.bits) : ["–", ""];
    const small = document.createElement("small");
    small.textContent = unit;
    $(direction).replaceChildren(text, " ", small);
    $(`${direction}-packets`).textContent = rates
      ? `${format.packets(rates[`${direction}_packets`])} packets/s` : "";
  }
  const strange = answer.unidentified.rates;
  const sum = strange && format.rate(strange.receive_bytes + strange.transmit_bytes, look.bits);
  $("unidentified").textContent = sum ? `unidentified ${sum.join(" ")}` : "";
  plot.draw($("plot"), past, look.ages);
  const minutes = plot.span(look.ages) / 60;
  $("plot-from").textContent = minutes === 1 ? "a minute ago" : `${minutes} minutes ago`;
  const [text, unit] = format.rate(plot.peak(past), look.bits);
  $("plot-peak").textContent = `highest ${text} ${unit}`;
}

function showCounts() {
  const { noun, title } = chosen.view;
  const { count, matching, rows, counted, hint } = answer;
  for (const [other, found] of Object.entries(answer.views)) {
    const tab = $(`tab-${other}`);
    tab.querySelector(".count").textContent = found === null ? "" : format.whole(found);
    tab.classList.toggle("uncounted", found === null);
  }
  const none = chosen.search
    ? `None of ${format.whole(count)} has this text in a name.`
    : `No ${noun} yet: none has used the network.`;
  $("empty").hidden = rows.length > 0;
  $("empty").textContent = counted ? none : `${title} are not counted; ${hint}.`;
  $("more").hidden = rows.length >= matching || chosen.limit >= MOST;
  const part = rows.length < matching ? `${format.whole(rows.length)} of ${format.whole(matching)}` : format.whole(matching);
  const all = matching < count ? ` (of ${format.whole(count)})` : "";
  $("shown").textContent = counted ? `${part} ${noun}${all}` : "";
}

// Choosing

function showView(view) {
  if (view !== chosen.view) chosen.limit = STEP;
  chosen.view = view;
  for (const { noun } of VIEWS) {
    const tab = $(`tab-${noun}`);
    tab.setAttribute("aria-selected", String(noun === view.noun));
    tab.tabIndex = noun === view.noun ? 0 : -1;
  }
  $("panel").setAttribute("aria-labelledby", `tab-${view.noun}`);
  $("table").className = view.noun;
  $("empty").hidden = $("more").hidden = true;
  table.begin(view);
  table.mark(...sorted());
  remember();
  if (chosen.paused) pause(false);
  else ask();
}

function sortBy(sort) {
  const [now, order] = sorted();
  const other = order === "ascending" ? "descending" : "ascending";
  chosen.sorts[chosen.view.noun] = [sort, sort === now ? other : usualOrder(sort)];
  remember();
  ask();
}

function move(step) {
  const columns = chosen.view.columns.filter((column) => column.sort);
  const at = columns.findIndex((column) => column.sort === sorted()[0]);
  const next = columns[(at + step + columns.length) % columns.length].sort;
  if (next !== sorted()[0]) sortBy(next);
}

function pause(on = !chosen.paused) {
  chosen.paused = on;
  $("pause").setAttribute("aria-pressed", String(on));
  state(on ? "paused" : "live");
  if (on) clearTimeout(timer);
  else ask();
}

function bits(on = !chosen.bits) {
  chosen.bits = on;
  $("bits").setAttribute("aria-pressed", String(on));
  keep("bits", on ? "1" : "");
  show();
}

function theme(name) {
  const root = document.documentElement;
  if (name === "system") delete root.dataset.theme;
  else root.dataset.theme = name;
  keep("theme", name);
  $("theme").className = name;
  $("theme-text").textContent = `Theme: ${name}`;
}

function search(text) {
  chosen.search = text;
  remember();
  ask();
}

function open(key) {
  const row = answer.rows.find((one) => keyed(one) === key);
  if (row) details.open(key, chosen.view, row, { bits: chosen.bits, ages: answer.age_seconds });
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // not kept, then
  }
}

function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

// Keys and buttons

function makeTabs() {
  $("tabs").replaceChildren(...VIEWS.map((view) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.id = `tab-${view.noun}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "panel");
    tab.setAttribute("aria-keyshortcuts", view.letter);
    const count = document.createElement("span");
    count.className = "count";
    tab.append(view.title, count);
    tab.addEventListener("click", () => showView(view));
    return tab;
  }));
  $("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const ends = { Home: 0, End: VIEWS.length - 1 }[event.key];
    if (step === undefined && ends === undefined) return;
    event.preventDefault();
    const at = VIEWS.indexOf(chosen.view);
    const view = VIEWS[ends ?? (at + step + VIEWS.length) % VIEWS.length];
    showView(view);
    $(`tab-${view.noun}`).focus();
  });
}

const KEYS = {
  ...Object.fromEntries(VIEWS.map((view) => [view.letter, () => showView(view)])),
  "<": () => move(-1),
  ">": () => move(1),
  r: () => sortBy(sorted()[0]),
  i: () => bits(),
  " ": () => pause(),
  "/": () => $("search").select(),
  "?": () => $("keys").showModal(),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select")) return;
    if (event.key === " " && event.target.closest("button, a")) return;
    const action = KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    if (event.key === "/") $("search").focus();
    action();
  });
  let typing = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => search($("search").value), 120);
  });
  $("search").addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      clearTimeout(typing);
      $("search").value = "";
      $("search").blur();
      search("");
    } else if (event.key === "Enter") {
      $("search").blur();
    }
  });
  $("pause").addEventListener("click", () => pause());
  $("bits").addEventListener("click", () => bits());
  $("theme").addEventListener("click", () => {
    const at = THEMES.indexOf(document.documentElement.dataset.theme ?? "system");
    theme(THEMES[(at + 1) % THEMES.length]);
  });
  $("help").addEventListener("click", () => $("keys").showModal());
  $("more-button").addEventListener("click", () => {
    chosen.limit = Math.min(MOST, chosen.limit * 2);
    ask();
  });
  $("interval").addEventListener("change", () => {
    chosen.seconds = Number($("interval").value);
    keep("interval", $("interval").value);
    if (!chosen.paused) ask();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside it
    });
  }
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!chosen.paused) ask();
  });
  window.addEventListener("hashchange", () => {
    recall();
    $("search").value = chosen.search;
    showView(chosen.view);
  });
}

recall();
makeTabs();
listen();
theme(document.documentElement.dataset.theme ?? "system");
if (kept("bits")) bits(true);
if ([...$("interval").options].some((option) => option.value === kept("interval"))) {
  $("interval").value = kept("interval");
  chosen.seconds = Number(kept("interval"));
}
$("where").textContent = location.host;
$("search").value = chosen.search;
showView(chosen.view);
