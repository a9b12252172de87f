// A training run on one canvas: experts x steps as colours, MaxVio and the loss below, marks where a setting changed.
// Draws one `frame` (see balance_canvas.py) and computes nothing but pixels. No network, no library.

const LEFT = 58, RIGHT = 64, MARKS = 34, PLOT = 84, SPACE = 18, FOOT = 34;
const BLUE = "#0072B2", SKY = "#56B4E9", GREY = "#8A8A8A", ORANGE = "#D55E00";

const STYLE = `
.mm-stream { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; }
.mm-stream h4 { margin: 0 0 4px; font-size: 14px; font-weight: 600; min-height: 2.8em; }
.mm-stream canvas { display: block; }
.mm-stream .mm-run:focus-visible { outline: 2px solid var(--jp-brand-color1, #0072B2); outline-offset: -2px; }
.mm-stream .mm-key { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; font-size: 12px; }
.mm-stream .mm-key span { display: inline-flex; align-items: center; gap: 5px; }
.mm-stream .mm-say { min-height: 1.4em; margin-top: 4px; overflow-wrap: anywhere; }
`;

function unpack(frame) {
  const steps = Array.from({ length: frame.columns }, (_, i) => frame.first + i * frame.stride);
  return { ...frame, steps, shade: bytes(frame.shade), maxvio: frame.maxvio.map(floats), loss: floats(frame.loss) };
}

function measure(view, width) {
  const cell = clamp(Math.floor(190 / view.experts), 2, 12), mapWidth = Math.max(width - LEFT - RIGHT, 80);
  const mapHeight = cell * view.experts, column = mapWidth / Math.max(view.room, 1);
  const maxvioTop = MARKS + mapHeight + SPACE, lossTop = maxvioTop + PLOT + SPACE;
  return { width, cell, mapWidth, mapHeight, column, maxvioTop, lossTop, height: lossTop + PLOT + FOOT };
}

function drawMap(pen, view, size, look, palette) {
  const columns = view.steps.length, image = new ImageData(columns, view.experts);
  view.shade.forEach((value, at) => {
    const column = Math.floor(at / view.experts), expert = at % view.experts;
    const colour = value ? shadeColour(palette, value, look.dark) : look.empty;
    image.data.set([...colour, 255], 4 * (expert * columns + column));
  });
  const small = document.createElement("canvas");
  small.width = columns;
  small.height = view.experts;
  small.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, LEFT, MARKS, columns * size.column, size.mapHeight);
  pen.strokeStyle = GREY;
  pen.lineWidth = 1;
  pen.strokeRect(LEFT - 0.5, MARKS - 0.5, size.mapWidth + 1, size.mapHeight + 1);
  pen.fillStyle = look.ink;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const every = Math.ceil(12 / size.cell);
  for (let e = 0; e < view.experts; e += every) pen.fillText(String(e), LEFT - 4, MARKS + (e + 0.5) * size.cell);
  sideways(pen, "expert", MARKS + size.mapHeight / 2);
}

function sideways(pen, text, y) {
  pen.save();
  pen.translate(9, y);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(text, 0, 0);
  pen.restore();
}

// A frame with its name and the two ends of its scale; gives the function from a value to its height.
function axes(pen, size, look, top, name, low, high) {
  pen.strokeStyle = GREY;
  pen.lineWidth = 1;
  pen.strokeRect(LEFT - 0.5, top - 0.5, size.mapWidth + 1, PLOT + 1);
  pen.fillStyle = look.ink;
  pen.textAlign = "right";
  pen.fillText(high.toFixed(1), LEFT - 4, top + 6);
  pen.fillText(low.toFixed(1), LEFT - 4, top + PLOT - 6);
  sideways(pen, name, top + PLOT / 2);
  return (value) => top + PLOT - (PLOT * (clamp(value, low, high) - low)) / (high - low || 1);
}

function curve(pen, size, values, height, colour, width) {
  pen.beginPath();
  values.forEach((value, i) => pen.lineTo(LEFT + (i + 0.5) * size.column, height(value)));
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}

function endLabel(pen, size, values, height, text) {
  pen.textAlign = "left";
  pen.fillText(text, LEFT + values.length * size.column + 5, height(values[values.length - 1]));
}

function dashed(pen, size, y) {
  pen.strokeStyle = GREY;
  pen.lineWidth = 1;
  pen.setLineDash([5, 4]);
  pen.beginPath();
  pen.moveTo(LEFT, y);
  pen.lineTo(LEFT + size.mapWidth, y);
  pen.stroke();
  pen.setLineDash([]);
}

function drawMaxVio(pen, view, size, look) {
  const high = Math.max(1, ...view.maxvio.map((values) => Math.max(...values))) * 1.08;
  const height = axes(pen, size, look, size.maxvioTop, "MaxVio", 0, high);
  view.worstShown = view.worst <= high;
  if (view.worstShown) dashed(pen, size, height(view.worst));
  view.maxvio.forEach((values, i) => {
    const chosen = i === view.maxvio.length - 1;
    curve(pen, size, values, height, chosen ? (look.dark ? SKY : BLUE) : GREY, chosen ? 2 : 1);
  });
  const own = view.maxvio[view.maxvio.length - 1];
  pen.fillStyle = look.dark ? SKY : BLUE;
  endLabel(pen, size, own, height, own[own.length - 1].toFixed(2));
}

function drawLoss(pen, view, size, look) {
  const low = Math.min(...view.loss), high = Math.max(...view.loss), air = Math.max((high - low) * 0.08, 0.05);
  const height = axes(pen, size, look, size.lossTop, "loss (nats)", low - air, high + air);
  curve(pen, size, view.loss, height, look.ink, 1.5);
  pen.fillStyle = look.ink;
  endLabel(pen, size, view.loss, height, view.loss[view.loss.length - 1].toFixed(2));
}

function drawSteps(pen, view, size, look) {
  pen.fillStyle = look.ink;
  pen.textAlign = "center";
  const y = size.lossTop + PLOT + 9, every = Math.max(1, Math.ceil(56 / size.column));
  for (let i = 0; i < view.steps.length; i += every) pen.fillText(String(view.steps[i]), LEFT + (i + 0.5) * size.column, y);
  pen.fillText(view.stride > 1 ? `step (each column is the mean of ${view.stride})` : "step", LEFT + size.mapWidth / 2, y + 15);
}

// Labels stand above their lines, in two rows so that neighbours do not meet; a third neighbour goes without.
function drawChanges(pen, view, size, look) {
  const first = view.steps[0], ends = [-1e9, -1e9];
  const before = view.marks.filter(([step]) => step <= first).slice(-1).map(([, label]) => [first, label]);
  for (const [step, label] of [...before, ...view.marks.filter(([step]) => step > first)]) {
    const x = LEFT + ((step - first) / view.stride) * size.column;
    if (x > LEFT + view.steps.length * size.column + 1) continue;
    if (step > first) {
      pen.strokeStyle = ORANGE;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(x, MARKS - 4);
      pen.lineTo(x, size.lossTop + PLOT);
      pen.stroke();
    }
    const text = clamp(pen.measureText(label).width, 0, size.width);
    const start = Math.min(x, size.width - text), row = ends.findIndex((end) => end + 8 < start);
    if (row < 0) continue;
    ends[row] = start + text;
    pen.fillStyle = look.ink;
    pen.textAlign = "left";
    pen.fillText(label, start, MARKS - 12 - 14 * row);
  }
}

function drawCursor(pen, view, size, look, at) {
  const column = view.steps.indexOf(at.step);
  if (column < 0) return;
  const x = LEFT + column * size.column;
  pen.strokeStyle = look.ink;
  pen.lineWidth = 1;
  pen.setLineDash([3, 2]);
  pen.strokeRect(x, MARKS, Math.max(size.column, 1), size.lossTop + PLOT - MARKS);
  pen.strokeRect(LEFT, MARKS + at.e * size.cell, view.steps.length * size.column, size.cell);
  pen.setLineDash([]);
}

function drawKey(key, view, look, palette) {
  const stops = [1, 64, 128, 192, 255].map((v) => `rgb(${shadeColour(palette, v, look.dark)})`).join(",");
  const box = "display:inline-block;height:11px;", open = view.top < view.worst + 1 ? "≥ " : "";
  key.innerHTML = `<span>load <i style="${box}width:70px;background:linear-gradient(90deg,${stops})"></i>
    ${open}${view.top.toFixed(1)} × the mean</span>
    <span><i style="${box}width:11px;box-sizing:border-box;border:1px solid ${GREY};background:rgb(${look.empty})"></i> idle</span>
    <span>${view.layers.length > 1 ? "grey curves: the other layers" : ""}</span>
    <span>${view.worstShown ? `dashed: ${view.worst.toFixed(1)}, MaxVio if a few experts serve every token` : ""}</span>`;
}

function describe(view, at) {
  const column = view.steps.indexOf(at.step);
  if (column < 0) return "";
  const value = view.shade[column * view.experts + at.e], many = value === 255 && view.top < view.worst + 1;
  const load = value ? `${many ? "at least " : ""}${((value * view.top) / 255).toFixed(1)} times the mean load` : "idle";
  const maxvio = view.maxvio[view.maxvio.length - 1][column];
  return `step ${at.step} · expert ${at.e}: ${load} · MaxVio ${maxvio.toFixed(2)} · loss ${view.loss[column].toFixed(2)}`;
}

function build(el) {
  const root = document.createElement("div");
  root.className = "mm-heat mm-stream";
  root.innerHTML = `<style>${STYLE}</style><h4></h4><canvas class="mm-run" tabindex="0" role="img"></canvas>
    <div class="mm-key"></div><div class="mm-say" role="status" aria-live="polite"></div>`;
  el.appendChild(root);
  const part = (name) => root.querySelector(name);
  return { root, title: part("h4"), run: part(".mm-run"), key: part(".mm-key"), say: part(".mm-say") };
}

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function render({ model, el }) {
  const parts = build(el);
  let view = null, size = null, at = null, palette = null, drawn = 0;

  function paint() {
    const width = parts.root.clientWidth;
    if (!view || !width) return;
    const look = theme(parts.root);
    size = measure(view, width);
    const pen = sizeCanvas(parts.run, size.width, size.height);
    pen.font = `11px ${look.font}`;
    pen.textBaseline = "middle";
    drawMap(pen, view, size, look, palette);
    drawMaxVio(pen, view, size, look);
    drawLoss(pen, view, size, look);
    drawSteps(pen, view, size, look);
    drawChanges(pen, view, size, look);
    if (at) drawCursor(pen, view, size, look, at);
    parts.title.textContent = view.title;
    parts.run.setAttribute("aria-label", `${view.alt} Arrow keys move from cell to cell.`);
    const said = at ? describe(view, at) : "Point at a cell, or focus the picture and use the arrow keys.";
    if (parts.say.textContent !== said) parts.say.textContent = said;
    drawKey(parts.key, view, look, palette);
    parts.root.dataset.drawn = String(++drawn); // counters that tests and timings can wait for
    parts.root.dataset.step = String(view.steps[view.steps.length - 1]);
  }
  function forget() {
    view = at = null;
    parts.run.getContext("2d").clearRect(0, 0, parts.run.width, parts.run.height);
    parts.title.textContent = parts.say.textContent = parts.key.textContent = "";
    parts.run.setAttribute("aria-label", "No step is trained yet.");
    parts.root.dataset.step = "0";
  }
  function load() {
    const frame = model.get("frame");
    if (!frame || !frame.columns) return forget();
    palette = bytes(model.get("palette"));
    view = unpack(frame);
    paint();
  }
  function point(event) {
    if (!view || !size) return;
    const column = Math.floor((event.offsetX - LEFT) / size.column), e = Math.floor((event.offsetY - MARKS) / size.cell);
    if (column < 0 || column >= view.steps.length) return;
    at = { step: view.steps[column], e: clamp(e, 0, view.experts - 1) };
    paint();
  }
  function press(event) {
    const move = MOVES[event.key];
    if (!move || !view) return;
    event.preventDefault();
    event.stopPropagation();
    const last = view.steps.length - 1, column = at ? view.steps.indexOf(at.step) : last;
    at = { step: view.steps[clamp((column < 0 ? last : column) + move[0], 0, last)],
      e: clamp((at ? at.e : 0) + move[1], 0, view.experts - 1) };
    paint();
  }
  parts.run.addEventListener("pointermove", point);
  parts.run.addEventListener("pointerdown", point);
  parts.run.addEventListener("pointerleave", () => { at = null; paint(); });
  parts.run.addEventListener("keydown", press);
  model.on("change:frame", load);
  const leave = followPlace(parts.root, paint);
  load();
  return () => {
    model.off("change:frame", load);
    leave();
  };
}

export default { render };
