// Three matrices of a product in tiles, B above C and A to its left, and below them the bytes loaded, program by program.
// Draws one `frame` (see kernel_stepper_words.py) and computes nothing but pixels. No network, no library.

const GAP = 26;

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
  pen.strokeStyle = signal(look);
  pen.lineWidth = 3;
  pen.strokeRect(box.x + left * box.s, box.y + top * box.s, (right - left) * box.s, (bottom - top) * box.s);
}

function drawKey(key, view, look, palette) {
  const stops = [0, 128, 255].map((v) => `rgb(${shadeColour(palette, v, look.dark)})`).join(",");
  const box = "display:inline-block;height:11px;";
  const one = (v) => `<i style="${box}width:11px;background:rgb(${shadeColour(palette, v, look.dark)})"></i>`;
  key.innerHTML = `<span>read 0 <i style="${box}width:60px;background:linear-gradient(90deg,${stops})"></i>
    A ${view.most.A} times, B ${view.most.B} times</span>
    <span>C: ${one(110)} written, ${one(235)} in this wave</span>
    <span><i style="${box}width:11px;box-sizing:border-box;border:2px solid ${signal(look)}"></i>
    ${view.stopped ? "touched before it was stopped" : "program at work"}</span>`;
}

function paintProduct(part, view, palette, full, look) {
  const [M, D] = view.shapes.A, F = view.shapes.C[1], width = Math.min(full, 620);
  const s = clamp(Math.min((width - GAP - 4) / (D + F), 380 / (D + M)), 0.5, 6);
  const pen = sizeCanvas(part(".mm-map"), (D + F) * s + GAP + 4, (D + M) * s + 2 * GAP);
  const right = D * s + GAP, below = D * s + 2 * GAP - 4, top = GAP - 8;
  drawMatrix(pen, "B", view, { x: right, y: top, w: F * s, h: D * s, s }, look, palette);
  drawMatrix(pen, "A", view, { x: 2, y: below, w: D * s, h: M * s, s }, look, palette);
  drawMatrix(pen, "C", view, { x: right, y: below, w: F * s, h: M * s, s }, look, palette);
  drawKey(part(".mm-key"), view, look, palette);
  const lines = [[view.loaded, blue(look), "every load"], [view.shared, green(look), `shared by ${view.together}`]];
  const axis = "bytes loaded, by programs run";
  drawCurves(part(".mm-curve"), { lines, at: view.at, once: [view.once, "A and B once"], axis }, width, look);
}

export default { render: (place) => stage(place, (frame) => frame.shapes, paintProduct) };
