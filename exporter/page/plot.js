// SPDX-License-Identifier: Apache-2.0
// Rates over the last minutes: received above the line, transmitted below. Each step is one
// interval, as long and as high as that was, so areas are what was really used.

const SVG = "http://www.w3.org/2000/svg";
const SPANS = [60, 120, 180, 300, 600, 1800, 3600];

/** How much time is to be seen, in seconds. */
export function span(ages) {
  const oldest = ages.length ? ages[0] : 0;
  return SPANS.find((seconds) => oldest <= seconds) ?? SPANS.at(-1);
}

export function peak(past) {
  if (!past) return 0;
  return Math.max(0, ...past.receive_bytes, ...past.transmit_bytes);
}

/** Make an element ready to be drawn in. */
export function prepare(svg, width, height) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const parts = ["receive", "transmit", "axis"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    return path;
  });
  svg.replaceChildren(...parts);
  parts[2].setAttribute("d", `M0 ${height / 2}H${width}`);
  return svg;
}

/** Draw; past: what a row says of it, or null if there was no traffic. */
export function draw(svg, past, ages, highest = peak(past)) {
  const { width, height } = svg.viewBox.baseVal;
  const middle = height / 2;
  const seconds = span(ages);
  const x = ages.map((age) => width * (1 - age / seconds));
  const [receive, transmit] = svg.children;
  for (const [path, numbers, sign] of [
    [receive, past?.receive_bytes, -1],
    [transmit, past?.transmit_bytes, 1],
  ]) {
    path.setAttribute("d", numbers && highest > 0 ? steps(x, numbers, middle, sign, highest) : "");
  }
}

function steps(x, numbers, middle, sign, highest) {
  let found = "";
  let isDown = true;
  for (let i = 0; i < x.length; i += 1) {
    if (x[i] <= 0) continue;
    const from = i ? x[i - 1] : x[i] - (x.length > 1 ? x[1] - x[0] : 1);
    if (numbers[i]) {
      const y = middle + sign * (1 + (numbers[i] / highest) * (middle - 2));
      if (isDown) found += `M${Math.max(0, from).toFixed(1)} ${middle}`;
      found += `V${y.toFixed(1)}H${x[i].toFixed(1)}`;
    } else if (!isDown) {
      found += `V${middle}z`;
    }
    isDown = !numbers[i];
  }
  return isDown ? found : `${found}V${middle}z`;
}
