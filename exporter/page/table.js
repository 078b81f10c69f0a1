// SPDX-License-Identifier: Apache-2.0
// The table. A row that is there already is changed where it differs and moved, not made anew: focus
// and selection stay, and it is fast.

import * as format from "./format.js";
import * as plot from "./plot.js";
import { keyOf } from "./views.js";

/** Change the text only if it is another one. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function quantity(element, [text, unit]) {
  const [number, small] = element.children;
  write(number, text);
  write(small, unit);
}

function number() {
  const element = document.createElement("span");
  element.className = "quantity";
  element.append(document.createElement("span"), document.createElement("small"));
  return element;
}

/** Put a text of whatever origin into a cell, if it is not there yet. */
function put(element, text) {
  if (element.dataset.text === text) return;
  element.dataset.text = text;
  element.replaceChildren(format.name(text));
  element.title = format.visible(text);
}

function below(column, row) {
  return (column.below ?? []).map((field) => row[field]).filter((id) => id !== null).join(" ");
}

/** By kind: fill a new cell, and return what changes it to a row's. */
const KINDS = {
  name(cell, column, open) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = column.mono ? "open mono" : "open";
    button.addEventListener("click", () => open(cell.parentElement.dataset.key));
    const small = document.createElement("small");
    const badge = document.createElement("small");
    cell.append(button, small, badge);
    return (row) => {
      if (row[column.field] === null) {
        if (button.dataset.text !== undefined) delete button.dataset.text;
        button.title = "Nobody is known to use it";
        write(button, "nobody");
      } else {
        put(button, row[column.field]);
      }
      write(small, below(column, row));
      badge.className = "badge";
      write(badge, row.end_time_seconds === undefined && row.outcome ? "ended" : "");
    };
  },
  text(cell, column) {
    const text = document.createElement("span");
    const small = document.createElement("small");
    cell.append(text, small);
    return (row) => {
      if (row[column.field] === null) {
        delete text.dataset.text;
        text.replaceChildren();
      } else {
        put(text, String(row[column.field]) || column.empty || "");
      }
      write(small, below(column, row));
    };
  },
  place(cell) {
    const text = document.createElement("span");
    cell.append(text);
    return (row) => {
      const where = row.pod ? [row.namespace, row.pod] : [row.container];
      put(text, where.filter(Boolean).join(" / ") || "–");
    };
  },
  endpoint(cell, column) {
    cell.classList.add("mono");
    return (row) => {
      const [address, port] = [row[`${column.field}_address`], row[`${column.field}_port`]];
      write(cell, format.endpoint(address, port));
      cell.title = cell.textContent;
    };
  },
  rate(cell, column) {
    cell.classList.add("number", column.direction);
    const found = number();
    const bar = document.createElement("span");
    bar.className = "share";
    cell.append(found, bar);
    return (row, look) => {
      const rate = row.rates && row.rates[`${column.direction}_bytes`];
      cell.classList.toggle("none", !rate);
      quantity(found, rate === null ? ["–", ""] : format.rate(rate, look.bits));
      bar.style.inlineSize = rate ? `${(100 * rate) / look.highest}%` : "0";
    };
  },
  packets(cell) {
    cell.classList.add("number");
    return (row) => {
      const rates = row.rates;
      const rate = rates && rates.receive_packets + rates.transmit_packets;
      cell.classList.toggle("none", !rate);
      write(cell, rate === null ? "–" : format.packets(rate));
    };
  },
  total(cell, column) {
    cell.classList.add("number");
    const found = number();
    cell.append(found);
    return (row, look) => {
      const total = row.totals[column.field];
      cell.classList.toggle("none", !total);
      quantity(found, format.bytes(total, look.bits));
      cell.title = `${format.whole(total)} bytes`;
    };
  },
  count(cell, column) {
    cell.classList.add("number");
    return (row) => write(cell, format.whole(row[column.field]));
  },
  connections(cell) {
    cell.classList.add("number");
    return (row) => {
      const found = Object.values(row.connections).reduce((sum, some) => sum + some, 0);
      write(cell, format.whole(found));
    };
  },
  plot(cell) {
    cell.classList.add("spark");
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("aria-hidden", "true");
    cell.append(plot.prepare(svg, 120, 26));
    return (row, look) => {
      plot.draw(svg, row.history, look.ages);
      const [text, unit] = format.rate(plot.peak(row.history), look.bits);
      cell.title = `highest: ${text} ${unit}`;
    };
  },
  moment(cell, column) {
    cell.classList.add("number");
    return (row) => write(cell, row[column.field] === null ? "–" : format.moment(row[column.field]));
  },
  lifetime(cell) {
    cell.classList.add("number");
    return (row) => write(cell, format.duration(row.end_time_seconds - row.start_time_seconds));
  },
  outcome(cell) {
    const badge = document.createElement("span");
    cell.append(badge);
    return (row) => {
      badge.className = `badge ${row.outcome}`;
      write(badge, row.signal ?? `exit ${row.exit_status}`);
    };
  },
};

export class Table {
  constructor(titles, body, { sort, open }) {
    this.titles = titles;
    this.body = body;
    this.sort = sort;
    this.open = open;
    this.view = null;
    this.rows = new Map();
  }

  /** Show another view, without rows yet. */
  begin(view) {
    this.view = view;
    this.rows.clear();
    this.body.replaceChildren();
    this.titles.replaceChildren(...view.columns.map((column) => this.#title(column)));
  }

  #title(column) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.className = classes(column);
    if (!column.sort) {
      cell.textContent = column.title;
      return cell;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => this.sort(column.sort));
    cell.dataset.sort = column.sort;
    cell.append(button);
    return cell;
  }

  /** Mark the column by which rows are in order. */
  mark(sort, order) {
    for (const cell of this.titles.children) {
      if (cell.dataset.sort === sort) cell.setAttribute("aria-sort", order);
      else cell.removeAttribute("aria-sort");
    }
  }

  show(rows, look) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;
    const keep = new Set();
    let place = this.body.firstElementChild;
    for (const row of rows) {
      const key = keyOf(this.view, row);
      keep.add(key);
      const known = this.rows.get(key) ?? this.#make(key);
      for (const change of known.changes) change(row, look);
      known.element.classList.toggle("over", Boolean(row.outcome) && !("number" in row));
      if (known.element === place) place = place.nextElementSibling;
      else this.body.insertBefore(known.element, place);
    }
    for (const [key, { element }] of this.rows) {
      if (!keep.has(key)) {
        element.remove();
        this.rows.delete(key);
      }
    }
    const table = this.body.parentElement;
    const somewhere = rows.some((row) => row.container || row.pod || row.namespace);
    table.classList.toggle("placeless", !somewhere);
    if (focused?.isConnected) focused.focus({ preventScroll: true }); // moving has taken it away
  }

  #make(key) {
    const element = document.createElement("tr");
    element.dataset.key = key;
    const changes = this.view.columns.map((column) => {
      const cell = document.createElement(column.kind === "name" ? "th" : "td");
      if (column.kind === "name") cell.scope = "row";
      cell.className = classes(column);
      element.append(cell);
      return KINDS[column.kind](cell, column, this.open);
    });
    const known = { element, changes };
    this.rows.set(key, known);
    return known;
  }
}

const NUMBERS = ["rate", "packets", "total", "count", "connections", "moment", "lifetime"];

function classes({ kind, room, direction }) {
  const numeric = NUMBERS.includes(kind) ? "number" : "";
  return [`kind-${kind}`, room ? `room-${room}` : "", numeric, direction ?? ""].filter(Boolean).join(" ");
}
