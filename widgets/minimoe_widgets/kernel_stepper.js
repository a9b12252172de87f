// Three matrices of a product in tiles, B above C and A to its left, and below them the bytes loaded, program by program.
// Draws one `frame` (see kernel_stepper_words.py) and computes nothing but pixels. No network, no library.

const GAP = 26, CURVE = 150, PAD = 44;

const STYLE = `
.mm-step { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; }
.mm-step h4 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.mm-step canvas { display: block; }
.mm-step .mm-key { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin: 4px 0; font-size: 12px; }
.mm-step .mm-key span { display: inline-flex; align-items: center; gap: 5px; }
`;

function drawMatrix(pen, name, view, box, look, palette) {
  const [rows, columns] = view.shapes[name], shade = bytes(view.shades[name]);
  const image = new ImageData(columns, rows);
  for (let cell = 0; cell < rows * columns; cell++) {
    const colour = shade[cell] ? shadeColour(palette, shade[cell], look.dark) : look.empty;
    image.data.set([...colour, 255], 4 * cell);
  }
  const small = document.createElement("canvas");
  small.width = columns;
  small.height = rows;
  small.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, box.x, box.y, box.w, box.h);
  pen.strokeStyle = look.ink;
  pen.lineWidth = 0.5;
  pen.strokeRect(box.x, box.y, box.w, box.h);
  pen.fillStyle = look.ink;
  pen.font = `12px ${look.font}`;
  pen.fillText(name, box.x, box.y - 5);
  const [m, d, f] = view.tiles, tall = name === "B" ? d : m, wide = name === "A" ? d : f;
  pen.beginPath();
  for (let r = tall; r < rows; r += tall) { pen.moveTo(box.x, box.y + r * box.s); pen.lineTo(box.x + box.w, box.y + r * box.s); }
  for (let c = wide; c < columns; c += wide) { pen.moveTo(box.x + c * box.s, box.y); pen.lineTo(box.x + c * box.s, box.y + box.h); }
  pen.globalAlpha = 0.35;
  pen.stroke();
  pen.globalAlpha = 1;
  const mark = view.boxes.find((each) => each[0] === name);
  if (!mark) return;
  const [, top, left, bottom, right] = mark;
  pen.strokeStyle = look.dark ? "#FF9E4A" : "#D55E00";
  pen.lineWidth = 3;
  pen.strokeRect(box.x + left * box.s, box.y + top * box.s, (right - left) * box.s, (bottom - top) * box.s);
}

function drawCurves(canvas, view, width, look) {
  const pen = sizeCanvas(canvas, width, CURVE), last = view.loaded.length - 1;
  const most = Math.max(...view.loaded, view.once, 1);
  const x = (n) => PAD + ((width - PAD - 12) * n) / Math.max(last, 1), y = (v) => CURVE - 22 - ((CURVE - 40) * v) / most;
  pen.font = `11px ${look.font}`;
  pen.fillStyle = pen.strokeStyle = look.ink;
  pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(PAD, 8); pen.lineTo(PAD, CURVE - 22); pen.lineTo(width - 8, CURVE - 22); pen.stroke();
  pen.textAlign = "right";
  for (const v of [0, most]) pen.fillText(`${(v / 1000).toFixed(0)} KB`, PAD - 4, y(v) + 4);
  pen.textAlign = "left";
  pen.fillText("bytes loaded, by programs run", PAD + 4, CURVE - 6);
  const lines = [[view.loaded, look.dark ? "#56B4E9" : "#0072B2", "every load"],
    [view.shared, look.dark ? "#2FCF9A" : "#009E73", `shared by ${view.together}`]];
  for (const [values, colour, label] of lines) {
    pen.strokeStyle = pen.fillStyle = colour;
    for (const [until, dash, thick] of [[last, [2, 3], 1], [view.at, [], 2.5]]) {
      pen.setLineDash(dash);
      pen.lineWidth = thick;
      pen.beginPath();
      for (let n = 0; n <= until; n++) n ? pen.lineTo(x(n), y(values[n])) : pen.moveTo(x(0), y(0));
      pen.stroke();
    }
    pen.textAlign = "right";
    pen.fillText(label, x(last) - 4, y(values[last]) - 5);
  }
  pen.setLineDash([5, 4]);
  pen.strokeStyle = pen.fillStyle = "#8A8A8A";
  pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(PAD, y(view.once)); pen.lineTo(width - 8, y(view.once)); pen.stroke();
  pen.setLineDash([]);
  pen.textAlign = "left";
  pen.fillText("A and B once", PAD + 6, y(view.once) - 4);
}

function drawKey(key, view, look, palette) {
  const stops = [0, 128, 255].map((v) => `rgb(${shadeColour(palette, v, look.dark)})`).join(",");
  const box = "display:inline-block;height:11px;";
  const one = (v) => `<i style="${box}width:11px;background:rgb(${shadeColour(palette, v, look.dark)})"></i>`;
  key.innerHTML = `<span>read 0 <i style="${box}width:60px;background:linear-gradient(90deg,${stops})"></i>
    A ${view.most.A} times, B ${view.most.B} times</span>
    <span>C: ${one(110)} written, ${one(235)} in this wave</span>
    <span><i style="${box}width:11px;box-sizing:border-box;border:2px solid ${look.dark ? "#FF9E4A" : "#D55E00"}"></i>
    ${view.stopped ? "touched before it was stopped" : "program at work"}</span>`;
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "mm-step";
  root.innerHTML = `<style>${STYLE}</style><h4 class="mm-title"></h4><canvas class="mm-map" role="img"></canvas>
    <div class="mm-key"></div><canvas class="mm-curve" aria-hidden="true"></canvas>`;
  el.appendChild(root);
  const part = (name) => root.querySelector(name);
  let view = null, palette = null, drawn = 0;

  function paint() {
    const width = root.clientWidth;
    if (!view || !width) return;
    const look = theme(root), [M, D] = view.shapes.A, F = view.shapes.C[1];
    const s = clamp(Math.min((Math.min(width, 620) - GAP - 4) / (D + F), 380 / (D + M)), 0.5, 6);
    const tall = (D + M) * s + 2 * GAP;
    const pen = sizeCanvas(part(".mm-map"), (D + F) * s + GAP + 4, tall);
    const right = D * s + GAP, below = D * s + 2 * GAP - 4, top = GAP - 8;
    drawMatrix(pen, "B", view, { x: right, y: top, w: F * s, h: D * s, s }, look, palette);
    drawMatrix(pen, "A", view, { x: 2, y: below, w: D * s, h: M * s, s }, look, palette);
    drawMatrix(pen, "C", view, { x: right, y: below, w: F * s, h: M * s, s }, look, palette);
    part(".mm-title").textContent = view.title;
    part(".mm-map").setAttribute("aria-label", view.alt);
    drawKey(part(".mm-key"), view, look, palette);
    drawCurves(part(".mm-curve"), view, Math.min(width, 620), look);
    root.dataset.drawn = String(++drawn);
  }
  function load() {
    const frame = model.get("frame");
    if (!frame || !frame.shapes) return;
    palette = bytes(model.get("palette"));
    view = frame;
    paint();
  }
  model.on("change:frame", load);
  const leave = followPlace(root, paint);
  load();
  return () => { model.off("change:frame", load); leave(); };
}

export default { render };
