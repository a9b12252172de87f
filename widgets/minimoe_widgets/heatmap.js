// The tokens x experts heat map: experts are rows, tokens run left to right as the text does.
// Draws one `frame` (see heatmap.py) and computes nothing but pixels. No network, no library.

const GUTTER = 46, BARS = 96, LABELS = 58, GAP = 4;

const STYLE = `
.mm-heat { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; }
.mm-heat h4 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.mm-heat .mm-row { display: flex; align-items: flex-start; max-width: 100%; }
.mm-heat .mm-scroll { overflow-x: auto; flex: 0 1 auto; min-width: 0; }
.mm-heat canvas { display: block; }
.mm-heat .mm-map:focus-visible { outline: 2px solid var(--jp-brand-color1, #0072B2); outline-offset: -2px; }
.mm-heat .mm-key { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin-top: 4px; font-size: 12px; }
.mm-heat .mm-key span { display: inline-flex; align-items: center; gap: 5px; }
.mm-heat .mm-say { min-height: 2.8em; margin-top: 4px; font-size: 13px; overflow-wrap: anywhere; }
`;

function hatch(pen, look) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const t = tile.getContext("2d");
  t.fillStyle = look.dark ? "#1b1b1b" : "#dcdcdc";
  t.fillRect(0, 0, 6, 6);
  t.strokeStyle = look.dark ? "#6a6a6a" : "#8f8f8f";
  t.lineWidth = 1;
  t.beginPath();
  for (const shift of [-6, 0, 6]) { t.moveTo(shift, 6); t.lineTo(shift + 6, 0); }
  t.stroke();
  return pen.createPattern(tile, "repeat");
}

function unpack(frame) {
  return { ...frame, shade: bytes(frame.shade), chosen: bytes(frame.chosen), kept: bytes(frame.kept),
    scores: floats(frame.scores), selection: floats(frame.selection), gates: floats(frame.gates) };
}

function measure(view, width) {
  const tokens = view.tokens.length;
  const cellHeight = clamp(Math.floor(420 / view.experts), 3, 18);
  const cellWidth = clamp((width - GUTTER - BARS - 2 * GAP) / tokens, 4, 26);
  return { tokens, cellWidth, cellHeight, mapWidth: cellWidth * tokens, mapHeight: cellHeight * view.experts,
    perGroup: view.experts / view.groups };
}

function drawCells(pen, view, size, look, palette) {
  const image = new ImageData(size.tokens, view.experts);
  for (let t = 0; t < size.tokens; t++) {
    for (let e = 0; e < view.experts; e++) {
      const cell = t * view.experts + e, value = view.shade[cell];
      const filled = value > 0 || view.chosen[cell];
      image.data.set([...(filled ? shadeColour(palette, value, look.dark) : look.empty), 255], 4 * (e * size.tokens + t));
    }
  }
  const small = document.createElement("canvas");
  small.width = size.tokens;
  small.height = view.experts;
  small.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, size.mapWidth, size.mapHeight);
}

function drawMarks(pen, view, size, look) {
  pen.beginPath();
  for (let t = 0; t < size.tokens; t++)
    for (let g = 0; g < view.groups; g++)
      if (!view.kept[t * view.groups + g])
        pen.rect(t * size.cellWidth, g * size.perGroup * size.cellHeight, size.cellWidth, size.perGroup * size.cellHeight);
  pen.fillStyle = hatch(pen, look);
  pen.fill();
  pen.beginPath();
  if (Math.min(size.cellWidth, size.cellHeight) >= 5)
    view.chosen.forEach((on, cell) => {
      const t = Math.floor(cell / view.experts), e = cell % view.experts;
      if (on) pen.rect(t * size.cellWidth + 0.75, e * size.cellHeight + 0.75, size.cellWidth - 1.5, size.cellHeight - 1.5);
    });
  for (let g = 1; g < view.groups; g++) {
    pen.moveTo(0, g * size.perGroup * size.cellHeight);
    pen.lineTo(size.mapWidth, g * size.perGroup * size.cellHeight);
  }
  pen.strokeStyle = look.ink;
  pen.lineWidth = 1;
  pen.stroke();
}

function drawTokens(pen, view, size, look) {
  pen.fillStyle = look.ink;
  pen.font = `11px ${look.font}`;
  pen.textAlign = "right";
  const every = Math.ceil(11 / size.cellWidth);
  for (let t = 0; t < size.tokens; t += every) {
    pen.save();
    pen.translate((t + 0.5) * size.cellWidth + 3, size.mapHeight + 5);
    pen.rotate(-Math.PI / 3);
    const text = view.tokens[t];
    pen.fillText(text.length > 9 ? `${text.slice(0, 8)}…` : text, 0, 4);
    pen.restore();
  }
}

function drawCursor(pen, size, look, at) {
  if (!at) return;
  pen.strokeStyle = look.ink;
  pen.lineWidth = 1;
  pen.setLineDash([3, 2]);
  pen.strokeRect(at.t * size.cellWidth, 0.5, size.cellWidth, size.mapHeight - 1);
  pen.strokeRect(0.5, at.e * size.cellHeight, size.mapWidth - 1, size.cellHeight);
  pen.setLineDash([]);
}

function drawGutter(canvas, view, size, look) {
  const pen = sizeCanvas(canvas, GUTTER, size.mapHeight + LABELS);
  pen.fillStyle = look.ink;
  pen.font = `${clamp(size.cellHeight - 2, 9, 11)}px ${look.font}`;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const every = Math.ceil(11 / size.cellHeight);
  for (let e = 0; e < view.experts; e += every) pen.fillText(String(e), GUTTER - 4, Math.max((e + 0.5) * size.cellHeight, 5));
  pen.save();
  pen.translate(9, size.mapHeight / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.font = `11px ${look.font}`;
  pen.fillText(view.groups > 1 ? `expert (${view.groups} groups)` : "expert", 0, 0);
  pen.restore();
}

function drawBars(canvas, view, size, look) {
  const pen = sizeCanvas(canvas, BARS, size.mapHeight + LABELS);
  const most = Math.max(...view.load, 1), room = BARS - GAP - 26;
  const mean = view.load.reduce((a, b) => a + b, 0) / view.load.length;
  pen.font = `10px ${look.font}`;
  pen.textBaseline = "middle";
  view.load.forEach((load, e) => {
    const y = e * size.cellHeight;
    pen.fillStyle = load === most ? "#D55E00" : "#56B4E9";
    pen.fillRect(GAP, y + 0.5, (room * load) / most, Math.max(size.cellHeight - 1, 1));
    pen.fillStyle = look.ink;
    if (load === most || size.cellHeight >= 10) pen.fillText(String(load), GAP + (room * load) / most + 3, y + size.cellHeight / 2);
  });
  const x = GAP + (room * mean) / most;
  pen.strokeStyle = look.ink;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, size.mapHeight + 4);
  pen.stroke();
  pen.setLineDash([]);
  pen.textBaseline = "top";
  pen.fillText(`mean ${mean.toFixed(1)}`, GAP, size.mapHeight + 8);
  pen.fillText(`MaxVio ${view.violation.toFixed(2)}`, GAP, size.mapHeight + 22);
}

function drawKey(key, view, look, palette) {
  const stops = [0, 64, 128, 192, 255].map((v) => `rgb(${shadeColour(palette, v, look.dark)})`).join(",");
  const stripes = look.dark ? "#1b1b1b 0 3px,#6a6a6a 3px 4px" : "#dcdcdc 0 3px,#8f8f8f 3px 4px";
  const box = "display:inline-block;height:11px;";
  key.innerHTML = `<span>${view.shade_name} ${show(view.shade_low)}
    <i style="${box}width:70px;background:linear-gradient(90deg,${stops})"></i> ${show(view.shade_high)}</span>
    <span><i style="${box}width:11px;box-sizing:border-box;border:1px solid ${look.ink}"></i> chosen</span>
    <span><i style="${box}width:16px;background:repeating-linear-gradient(135deg,${stripes})"></i> group not kept</span>
    <span>bars: tokens per expert</span>`;
}

function describe(view, at) {
  const cell = at.t * view.experts + at.e, group = Math.floor(at.e / (view.experts / view.groups));
  const kept = view.kept[at.t * view.groups + group] ? "kept" : "not kept";
  const gate = view.chosen[cell] ? `gate ${show(view.gates[cell])}` : "not chosen";
  const groups = view.groups > 1 ? ` (group ${group}, ${kept})` : "";
  return `token ${at.t} “${view.hover[at.t]}” · expert ${at.e}${groups} · score ${show(view.scores[cell])} · ` +
    `with bias ${show(view.selection[cell])} · ${gate}`;
}

function build(el) {
  const root = document.createElement("div");
  root.className = "mm-heat";
  root.innerHTML = `<style>${STYLE}</style><h4></h4><div class="mm-row"><canvas class="mm-gutter" aria-hidden="true"></canvas>
    <div class="mm-scroll"><canvas class="mm-map" tabindex="0" role="img"></canvas></div>
    <canvas class="mm-bars" aria-hidden="true"></canvas></div>
    <div class="mm-key"></div><div class="mm-say" role="status" aria-live="polite"></div>`;
  el.appendChild(root);
  const part = (name) => root.querySelector(name);
  return { root, title: part("h4"), gutter: part(".mm-gutter"), scroll: part(".mm-scroll"), map: part(".mm-map"),
    bars: part(".mm-bars"), key: part(".mm-key"), say: part(".mm-say") };
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function render({ model, el }) {
  const parts = build(el);
  let view = null, size = null, look = null, at = null, palette = null, drawn = 0;

  function paintMap() {
    const pen = sizeCanvas(parts.map, size.mapWidth, size.mapHeight + LABELS);
    drawCells(pen, view, size, look, palette);
    drawMarks(pen, view, size, look);
    drawTokens(pen, view, size, look);
    drawCursor(pen, size, look, at);
    parts.say.textContent = at ? describe(view, at) : "Point at a cell, or focus the map and use the arrow keys.";
  }
  function paint() {
    const width = parts.root.clientWidth;
    if (!view || !width) return;
    look = theme(parts.root);
    size = measure(view, width);
    if (at && (at.t >= size.tokens || at.e >= view.experts)) at = null;
    drawGutter(parts.gutter, view, size, look);
    drawBars(parts.bars, view, size, look);
    drawKey(parts.key, view, look, palette);
    parts.title.textContent = view.title;
    parts.map.setAttribute("aria-label", `${view.alt} Arrow keys move from cell to cell.`);
    paintMap();
    parts.root.dataset.drawn = String(++drawn); // a counter that tests and timings can wait for
  }
  function load() {
    const frame = model.get("frame");
    if (!frame || !frame.tokens) return;
    palette = bytes(model.get("palette"));
    view = unpack(frame);
    paint();
  }
  function point(event) {
    if (!view || !size) return;
    const t = Math.floor(event.offsetX / size.cellWidth), e = Math.floor(event.offsetY / size.cellHeight);
    if (t < 0 || t >= size.tokens || e < 0 || e >= view.experts || (at && at.t === t && at.e === e)) return;
    at = { t, e };
    paintMap();
  }
  function press(event) {
    const step = STEPS[event.key];
    if (!step || !view) return;
    event.preventDefault();
    event.stopPropagation();
    at = at ? { t: clamp(at.t + step[0], 0, size.tokens - 1), e: clamp(at.e + step[1], 0, view.experts - 1) } : { t: 0, e: 0 };
    const x = at.t * size.cellWidth, shown = parts.scroll;
    if (x < shown.scrollLeft) shown.scrollLeft = x;
    if (x + size.cellWidth > shown.scrollLeft + shown.clientWidth) shown.scrollLeft = x + size.cellWidth - shown.clientWidth;
    paintMap();
  }
  parts.map.addEventListener("pointermove", point);
  parts.map.addEventListener("pointerdown", point);
  parts.map.addEventListener("keydown", press);
  model.on("change:frame", load);
  const leave = followPlace(parts.root, paint);
  load();
  return () => {
    model.off("change:frame", load);
    leave();
  };
}

export default { render };
