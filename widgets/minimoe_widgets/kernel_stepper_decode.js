// Decoding step by step. From above: each sequence's pages with its programs below, the cache page by page, the variables
// of the program at work, and the bytes moved. Draws one `frame` (see kernel_stepper_decode_words.py) and computes
// nothing but pixels. No network, no library.

const LABEL = 68, STRIP = 16, BAR = 11, EMPTY = 11, TOP = 18, INSIDE = 200, AXIS = 14;
const [WAITING, AT_WORK, DONE] = [0, 1, 2];

function words(pen, text, x, y, look, align = "left") {
  pen.fillStyle = look.ink;
  pen.font = `11px ${look.font}`;
  pen.textAlign = align;
  pen.fillText(text, x, y);
}

function frameBox(pen, x, y, w, h, colour, thick) {
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.strokeRect(x, y, w, h);
}

const rowHeight = (view) => STRIP + view.head_blocks * (BAR + 2) + 9;

function drawSequences(pen, view, y, width, look) {
  words(pen, "entries in their pages; below them the programs", 0, y + 11, look);
  const empties = view.lengths.map(() => 0);
  for (const [b, h, , first, end] of view.shares) if (!h && first === end) empties[b]++;
  const unit = Math.min(...view.lengths.map((n, b) => (width - LABEL - 8 - EMPTY * empties[b]) / Math.max(n, 32)));
  view.lengths.forEach((length, b) => {
    const top = y + TOP + b * rowHeight(view);
    words(pen, `seq ${b}${view.combined.includes(b) ? " \u2713" : ""}`, 0, top + 12, look);
    words(pen, `${length} entries`, 0, top + STRIP + 10, look);
    view.tables[b].forEach((page, j) => {
      const x = LABEL + j * view.page * unit, w = Math.min(view.page, length - j * view.page) * unit;
      frameBox(pen, x, top, w, STRIP, look.ink, 0.7);
      if (w > 13) words(pen, String(page), x + w / 2, top + 12, look, "center");
    });
  });
  for (const share of view.shares) drawShare(pen, view, share, y + TOP, unit, look);
}

function drawShare(pen, view, [b, h, number, first, end, read, condition], y, unit, look) {
  const top = y + b * rowHeight(view) + STRIP + 2 + h * (BAR + 2), empty = first === end;
  const before = view.shares.filter((s) => s[0] === b && s[1] === h && s[3] === s[4] && s[2] < number).length;
  const x = LABEL + (empty ? view.lengths[b] * unit + 6 + EMPTY * before : first * unit);
  const w = empty ? EMPTY - 3 : (end - first) * unit - 2;
  pen.fillStyle = `rgb(${look.empty})`;
  pen.fillRect(x, top, w, BAR);
  pen.fillStyle = condition === DONE ? green(look) : signal(look);
  if (condition !== WAITING) pen.fillRect(x, top, empty ? w : (w * read) / (end - first), BAR);
  const working = view.working.length === 3 && view.working.every((place, i) => place === [b, h, number][i]);
  frameBox(pen, x, top, w, BAR, working ? signal(look) : look.ink, working ? 2.5 : 0.6);
}

function drawPages(pen, view, y, width, look, palette) {
  words(pen, "the cache as it lies in memory, page by page", 0, y + 11, look);
  const times = bytes(view.times), filled = bytes(view.filled), count = times.length / view.page;
  const { cell, across } = pagesLayout(view, width), wide = view.page * cell, now = new Set(view.now);
  for (let p = 0; p < count; p++) {
    const x = (p % across) * (wide + 10) + 1, top = y + TOP + 12 + Math.floor(p / across) * 32;
    words(pen, String(p), x, top - 2, look);
    for (let i = 0; i < view.page; i++) {
      const at = p * view.page + i, shade = Math.round((255 * times[at]) / view.head_blocks);
      pen.fillStyle = `rgb(${times[at] ? shadeColour(palette, shade, look.dark) : look.empty})`;
      if (filled[at]) pen.fillRect(x + i * cell, top, cell, 13);
    }
    const unused = Array.from({ length: view.page }, (_, i) => i).find((i) => !filled[p * view.page + i]);
    if (unused !== undefined) hatch(pen, x + unused * cell, top, wide - unused * cell, 13);
    frameBox(pen, x, top, wide, 13, look.ink, 0.6);
    const here = [...Array(view.page).keys()].filter((i) => now.has(p * view.page + i));
    if (here.length) frameBox(pen, x + here[0] * cell, top - 1, here.length * cell, 15, signal(look), 3);
  }
}

function pagesLayout(view, width) {
  const count = bytes(view.times).length / view.page, cell = view.page > 16 ? 3 : 4;
  const across = Math.max(1, Math.floor((width + 8) / (view.page * cell + 10)));
  return { cell, across, height: TOP + 32 * Math.ceil(count / across) + 6 };
}

function hatch(pen, x, y, w, h) {
  pen.save();
  pen.beginPath(); pen.rect(x, y, w, h); pen.clip();
  pen.beginPath();
  for (let at = x - h; at < x + w; at += 5) { pen.moveTo(at, y + h); pen.lineTo(at + h, y); }
  pen.strokeStyle = "#8A8A8A";
  pen.lineWidth = 1;
  pen.stroke();
  pen.restore();
}

// Negative blue, positive orange, nothing the page's own pale shade.
function signed(value, look) {
  const [low, high] = look.dark ? [[86, 180, 233], [255, 158, 74]] : [[0, 114, 178], [213, 94, 0]];
  const to = value < 0 ? low : high, part = Math.min(1, Math.abs(value));
  return look.empty.map((from, i) => Math.round(from + (to[i] - from) * part));
}

function drawInside(pen, view, y, width, look) {
  const inside = view.inside;
  if (!inside) return words(pen, "no program has run yet", 0, y + 11, look);
  const tall = (INSIDE - 8) / Math.max(inside.rows, 16), left = Math.floor(width * 0.22), middle = Math.floor(width * 0.26);
  const mapAt = left + middle + 20, map = floats(inside.map), wide = (width - mapAt - 2) / inside.width, top = y + TOP;
  words(pen, inside.name, mapAt, y + 11, look);
  for (let r = 0; r < inside.rows; r++) {
    pen.globalAlpha = r < inside.real ? 1 : 0.35;
    for (let c = 0; c < inside.width; c++) {
      pen.fillStyle = `rgb(${signed(map[r * inside.width + c] / inside.most, look)})`;
      pen.fillRect(mapAt + c * wide, top + r * tall, wide + 0.5, tall + 0.5);
    }
  }
  pen.globalAlpha = 1;
  frameBox(pen, mapAt, top, inside.width * wide, inside.rows * tall, look.ink, 0.5);
  if (inside.kind === "combine") drawWeights(pen, view, { x: 1, y, w: left + middle, tall }, look);
  else drawRunning(pen, inside, { x: 1, y, left, middle, tall }, look);
}

function drawRunning(pen, inside, { x, y, left, middle, tall }, look) {
  const [peak, oldPeak, total, oldTotal, kept] =
    ["peak", "old_peak", "total", "old_total", "kept"].map((name) => floats(inside[name]));
  const second = x + left + 10, top = y + TOP, thin = 0.8 * tall;
  words(pen, "maximum", x, y + 11, look);
  words(pen, "sum", second, y + 11, look);
  const under = top + inside.rows * tall + 12;
  words(pen, inside.low.toFixed(1), x, under, look);
  words(pen, inside.high.toFixed(1), x + left, under, look, "right");
  words(pen, "0", second, under, look);
  words(pen, inside.most_total.toFixed(1), second + middle, under, look, "right");
  const at = (v) => x + ((left - 4) * (v - inside.low)) / (inside.high - inside.low || 1);
  const long = (v) => (middle * v) / inside.most_total;
  frameBox(pen, x, top, left, inside.rows * tall, look.ink, 0.5);
  frameBox(pen, second, top, middle, inside.rows * tall, look.ink, 0.5);
  for (let r = 0; r < inside.rows; r++) {
    const line = top + r * tall + (tall - thin) / 2;
    pen.globalAlpha = r < inside.real ? 1 : 0.35;
    if (Number.isFinite(peak[r])) {
      const old = Number.isFinite(oldPeak[r]) ? oldPeak[r] : null;
      pen.fillStyle = signal(look);
      if (old !== null) pen.fillRect(at(old), line + thin / 3, at(peak[r]) - at(old), Math.max(1, thin / 3));
      pen.fillStyle = "#8A8A8A";
      if (old !== null) pen.fillRect(at(old), line, 2, thin);
      pen.fillStyle = blue(look);
      pen.fillRect(at(peak[r]), line, 4, thin);
    }
    pen.fillStyle = blue(look);
    pen.fillRect(second, line, long(kept[r]), thin);
    pen.fillStyle = signal(look);
    pen.fillRect(second + long(kept[r]), line, long(total[r] - kept[r]), thin);
    pen.fillStyle = "#8A8A8A";
    if (oldTotal[r]) pen.fillRect(second + long(oldTotal[r]) - 1, line, 2, thin);
  }
  pen.globalAlpha = 1;
}

function drawWeights(pen, view, { x, y, w, tall }, look) {
  const weights = floats(view.inside.weights), top = y + TOP;
  words(pen, "weights of shares 0, 1, ... in turn", x, y + 11, look);
  for (let r = 0; r < view.inside.rows; r++) {
    let from = x;
    for (let share = 0; share < view.splits; share++) {
      const wide = weights[r * view.splits + share] * w;
      pen.fillStyle = share % 2 ? "#8A8A8A" : blue(look);
      pen.fillRect(from, top + r * tall, wide, Math.max(0.7, tall - 1));
      from += wide;
    }
  }
  frameBox(pen, x, top, w, view.inside.rows * tall, look.ink, 0.5);
}

function drawDecodeKey(key, view, look, palette) {
  const base = "display:inline-block;width:11px;height:11px;box-sizing:border-box;";
  const fill = (colour) => `<i style="${base}background:${colour}"></i>`;
  const line = (colour) => `<i style="${base}border:2px solid ${colour}"></i>`;
  const shade = (n) => fill(`rgb(${shadeColour(palette, Math.round((255 * n) / view.head_blocks), look.dark)})`);
  const reads = view.head_blocks > 1 ? `${shade(1)} once ${shade(2)} twice` : `${shade(1)} read once`;
  const striped = fill("repeating-linear-gradient(135deg,#8A8A8A 0 1px,transparent 1px 4px)");
  const kind = view.inside && view.inside.kind, pale = view.inside && view.inside.real < view.inside.rows;
  const sums = {
    block: `<span>sum: ${fill(blue(look))} kept, ${fill(signal(look))} added by this block; ${fill("#8A8A8A")} the old value</span>`,
    store: `<span>${fill(blue(look))} the sum that divides the output</span>`,
    combine: `<span>${fill(blue(look))}${fill("#8A8A8A")} shares in turn</span>`,
  };
  const signs = `<span>${fill(`rgb(${signed(-1, look)})`)} negative ${fill(`rgb(${signed(0, look)});border:1px solid #8A8A8A`)} 0
    ${fill(`rgb(${signed(1, look)})`)} positive</span>`;
  key.innerHTML = `<span>programs: ${fill(signal(look))} at work ${fill(green(look))} stored; small box: no entries</span>
    <span>cache: ${reads} ${striped} no entry (NaN)</span><span>${line(signal(look))} this step</span>
    ${kind ? sums[kind] + signs : ""}${pale ? "<span>pale rows: padding</span>" : ""}
    ${view.combined.length ? "<span>\u2713 combined</span>" : ""}`;
}

function paintDecode(part, view, palette, full, look) {
  const width = Math.min(full, 620), pages = pagesLayout(view, width).height;
  const above = TOP + view.lengths.length * rowHeight(view) + 8;
  const pen = sizeCanvas(part(".mm-map"), width, above + pages + TOP + INSIDE + AXIS);
  drawSequences(pen, view, 0, width, look);
  drawPages(pen, view, above, width, look, palette);
  drawInside(pen, view, above + pages + 4, width, look);
  drawDecodeKey(part(".mm-key"), view, look, palette);
  const lines = [[view.moved, blue(look), "all bytes"], [view.cache, green(look), "from the cache"]];
  const axis = "bytes loaded and stored, step by step";
  drawCurves(part(".mm-curve"), { lines, at: view.at, once: [view.once, "each entry once"], axis }, width, look);
}

export default { render: (place) => stage(place, (frame) => frame.lengths, paintDecode) };
