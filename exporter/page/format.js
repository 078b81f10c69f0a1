// SPDX-License-Identifier: Apache-2.0
// Names and numbers as people read them.

const PREFIXES = ["", "k", "M", "G", "T", "P", "E"];
// What is not seen, or changes how its neighbours are seen: controls, marks of direction, joiners,
// halves of characters, fillers.
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\u034f\u115f\u1160\u3164\uffa0]/gu;
const exact = new Intl.NumberFormat("en-GB");

export function visible(text) {
  return text.replace(HIDDEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** A text of whatever origin, as an element that nothing around it is changed by. */
export function name(text) {
  const element = document.createElement("bdi");
  if (text === "") {
    element.className = "quiet";
    element.textContent = "(no name)";
  } else {
    element.textContent = visible(text);
  }
  return element;
}

export function short(number) {
  let prefix = 0;
  while (number >= 999.5 && prefix < PREFIXES.length - 1) {
    number /= 1000;
    prefix += 1;
  }
  const decimals = number > 0 && number < 99.95 && (prefix > 0 || number < 9.95) ? 1 : 0;
  return [number.toFixed(decimals), PREFIXES[prefix]];
}

/** Number and unit apart, so that numbers stand below each other. */
export function bytes(number, bits) {
  const [text, prefix] = short(bits ? number * 8 : number);
  return [text, `${prefix}${bits ? "bit" : "B"}`];
}

export function rate(number, bits) {
  const [text, unit] = bytes(number, bits);
  return [text, `${unit}/s`];
}

export function packets(number) {
  const [text, prefix] = short(number);
  return `${text}${prefix ? ` ${prefix}` : ""}`;
}

export function whole(number) {
  return exact.format(number);
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function moment(seconds) {
  const then = new Date(seconds * 1000);
  const day = then.toLocaleDateString("en-CA");
  return day === new Date().toLocaleDateString("en-CA") ? clock(seconds) : `${day} ${clock(seconds)}`;
}

export function duration(seconds) {
  if (seconds < 0.995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  for (const [size, unit, part, small] of steps) {
    if (seconds >= size) {
      const rest = Math.floor((seconds % size) / part);
      return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
    }
  }
  return `${Math.round(seconds)} s`;
}

export function endpoint(address, port) {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
