// Three maps of one matrix, one for each choice of scales: the relative error of every element, with the tiles' borders.
// Draws one `frame` (see fp8_words.py) and computes nothing but pixels. No network, no library.

const ZERO = "#D55E00", EDGE = 8;

const STYLE = `
.mm-fp8 { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; }
.mm-fp8 h4 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.mm-fp8 .mm-scroll { overflow-x: auto; max-width: 100%; }
.mm-fp8 canvas { display: block; cursor: crosshair; }
.mm-fp8 .mm-map:focus-visible { outline: 2px solid var(--jp-brand-color1, #0072B2); outline-offset: -2px; }
.mm-fp8 .mm-key { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin: 4px 0; font-size: 12px; }
.mm-fp8 .mm-key span { display: inline-flex; align-items: center; gap: 5px; }
`;

function measure(view, width) {
  const cellWidth = clamp((width - 2 * EDGE) / view.columns, 0.5, 12);
  const cellHeight = clamp(Math.floor(96 / view.rows), 1, 12);
  return { cellWidth, cellHeight, mapWidth: cellWidth * view.columns, mapHeight: cellHeight * view.rows };
}

function drawCells(pen, view, strip, size, look, palette) {
  const image = new ImageData(view.columns, view.rows), zero = [0xd5, 0x5e, 0x00];
  bytes(strip.shade).forEach((value, cell) => {
    const colour = value === 255 ? zero : value ? shadeColour(palette, value, look.dark) : look.empty;
    image.data.set([...colour, 255], 4 * cell);
  });
  const small = document.createElement("canvas");
  small.width = view.columns;
  small.height = view.rows;
  small.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = size.cellWidth * (window.devicePixelRatio || 1) < 1; // or whole columns would be left out
  pen.drawImage(small, EDGE, EDGE, size.mapWidth, size.mapHeight);
}

function drawBorders(pen, view, strip, size, look) {
  const [tall, wide] = strip.block;
  pen.beginPath();
  for (let r = tall; r < view.rows; r += tall) {
    pen.moveTo(EDGE, EDGE + r * size.cellHeight);
    pen.lineTo(EDGE + size.mapWidth, EDGE + r * size.cellHeight);
  }
  for (let c = wide; c < view.columns; c += wide) {
    pen.moveTo(EDGE + c * size.cellWidth, EDGE);
    pen.lineTo(EDGE + c * size.cellWidth, EDGE + size.mapHeight);
  }
  pen.strokeStyle = look.ink;
  pen.lineWidth = 1;
  pen.globalAlpha = tall * size.cellHeight < 20 ? 0.35 : 1; // close lines would hide what lies between them
  pen.stroke();
  pen.globalAlpha = 1;
  pen.strokeRect(EDGE, EDGE, size.mapWidth, size.mapHeight);
}

// Every mark is drawn twice, wide in the page's colour and thin in the ink's, so that it stands out from any cell.
function drawMarks(pen, view, size, look, at) {
  const x = (c) => EDGE + (c + 0.5) * size.cellWidth, y = (r) => EDGE + (r + 0.5) * size.cellHeight;
  const [row, column] = view.outlier, half = Math.max(5, size.cellWidth / 2 + 2);
  for (const [colour, thick] of [[look.dark ? "#000" : "#fff", 5], [look.dark ? "#fff" : "#000", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.beginPath();
    pen.arc(x(column), y(row), 6, 0, 2 * Math.PI);
    pen.rect(x(at[1]) - half, y(at[0]) - half, 2 * half, 2 * half);
    pen.stroke();
  }
}

function drawKey(key, view, look, palette) {
  const stops = [1, 64, 128, 192, 254].map((v) => `rgb(${shadeColour(palette, v, look.dark)})`).join(",");
  const box = "display:inline-block;height:11px;box-sizing:border-box;";
  const line = `border:2px solid ${look.ink};width:11px`;
  key.innerHTML = `<span>relative error 0.1% or less
    <i style="${box}width:90px;background:linear-gradient(90deg,${stops})"></i> 100%</span>
    <span><i style="${box}width:11px;background:${ZERO}"></i> became zero</span>
    <span><i style="${box}${line};border-radius:50%"></i> outlier</span>
    <span><i style="${box}${line}"></i> chosen element</span>
    <span>lines: what shares a scale</span>`;
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function build(el) {
  const root = document.createElement("div");
  root.className = "mm-fp8";
  const strip = `<div class="mm-strip"></div><div class="mm-scroll">
    <canvas class="mm-map" tabindex="0" role="img"></canvas></div>`;
  root.innerHTML = `<style>${STYLE}</style><h4 class="mm-title"></h4>${strip.repeat(3)}<div class="mm-key"></div>`;
  el.appendChild(root);
  const all = (name) => [...root.querySelectorAll(name)];
  return { root, title: all("h4")[0], key: all(".mm-key")[0], names: all(".mm-strip"), maps: all(".mm-map"),
    scrolls: all(".mm-scroll") };
}

function render({ model, el }) {
  const parts = build(el);
  let view = null, size = null, look = null, palette = null, drawn = 0;

  function paint() {
    const width = parts.root.clientWidth;
    if (!view || !width) return;
    look = theme(parts.root);
    size = measure(view, width);
    parts.title.textContent = view.title;
    view.strips.forEach((strip, i) => {
      parts.names[i].textContent = strip.words;
      const pen = sizeCanvas(parts.maps[i], size.mapWidth + 2 * EDGE, size.mapHeight + 2 * EDGE);
      drawCells(pen, view, strip, size, look, palette);
      drawBorders(pen, view, strip, size, look);
      drawMarks(pen, view, size, look, model.get("at"));
      parts.maps[i].setAttribute("aria-label", `${strip.alt} Arrow keys move from element to element, with Shift by ${view.jump}.`);
    });
    drawKey(parts.key, view, look, palette);
    parts.root.dataset.drawn = String(++drawn); // a counter that tests and timings can wait for
  }
  function load() {
    const frame = model.get("frame");
    if (!frame || !frame.strips) return;
    palette = bytes(model.get("palette"));
    view = frame;
    paint();
  }
  function choose(row, column) {
    const [r, c] = model.get("at");
    if (r === row && c === column) return;
    model.set("at", [row, column]);
    model.save_changes();
  }
  function point(event) {
    if (!view || !size || (event.type === "pointermove" && !event.buttons)) return;
    const row = Math.floor((event.offsetY - EDGE) / size.cellHeight), column = Math.floor((event.offsetX - EDGE) / size.cellWidth);
    choose(clamp(row, 0, view.rows - 1), clamp(column, 0, view.columns - 1));
  }
  function press(event) {
    const step = STEPS[event.key];
    if (!step || !view) return;
    event.preventDefault();
    event.stopPropagation();
    const [r, c] = model.get("at"), far = event.shiftKey ? view.jump : 1;
    const column = clamp(c + far * step[1], 0, view.columns - 1), x = EDGE + column * size.cellWidth;
    choose(clamp(r + far * step[0], 0, view.rows - 1), column);
    for (const shown of parts.scrolls) {
      if (x < shown.scrollLeft) shown.scrollLeft = x;
      if (x + 12 > shown.scrollLeft + shown.clientWidth) shown.scrollLeft = x + 12 - shown.clientWidth;
    }
  }
  for (const map of parts.maps) {
    map.addEventListener("pointerdown", point);
    map.addEventListener("pointermove", point);
    map.addEventListener("keydown", press);
  }
  model.on("change:frame", load);
  model.on("change:at", paint);
  const leave = followPlace(parts.root, paint);
  load();
  return () => {
    model.off("change:frame", load);
    model.off("change:at", paint);
    leave();
  };
}

export default { render };
