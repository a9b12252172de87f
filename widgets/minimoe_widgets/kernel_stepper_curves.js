// What both views of KernelStepper share: their style, and bytes as curves over the steps. kernel_stepper_canvas.py puts
// this in front of either view's script.

const CURVE = 150, PAD = 44;

const STYLE = `
.mm-step { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; }
.mm-step h4 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
.mm-step canvas { display: block; }
.mm-step .mm-key { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; margin: 4px 0; font-size: 12px; }
.mm-step .mm-key span { display: inline-flex; flex-wrap: wrap; align-items: center; gap: 0 5px; }
`;

const signal = (look) => (look.dark ? "#FF9E4A" : "#D55E00");
const blue = (look) => (look.dark ? "#56B4E9" : "#0072B2");
const green = (look) => (look.dark ? "#2FCF9A" : "#009E73");

// `lines`: [values, colour, label] each; dotted to the end, drawn out up to `at`. `once`: [value, label] of the grey line.
function drawCurves(canvas, { lines, at, once, axis }, width, look) {
  const pen = sizeCanvas(canvas, width, CURVE), last = lines[0][0].length - 1;
  const most = Math.max(...lines[0][0], once[0], 1);
  const x = (n) => PAD + ((width - PAD - 12) * n) / Math.max(last, 1), y = (v) => CURVE - 22 - ((CURVE - 40) * v) / most;
  pen.font = `11px ${look.font}`;
  pen.fillStyle = pen.strokeStyle = look.ink;
  pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(PAD, 8); pen.lineTo(PAD, CURVE - 22); pen.lineTo(width - 8, CURVE - 22); pen.stroke();
  pen.textAlign = "right";
  for (const v of [0, most]) pen.fillText(`${(v / 1000).toFixed(0)} KB`, PAD - 4, y(v) + 4);
  pen.textAlign = "left";
  pen.fillText(axis, PAD + 4, CURVE - 6);
  for (const [values, colour, label] of lines) {
    pen.strokeStyle = pen.fillStyle = colour;
    for (const [until, dash, thick] of [[last, [2, 3], 1], [at, [], 2.5]]) {
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
  pen.beginPath(); pen.moveTo(PAD, y(once[0])); pen.lineTo(width - 8, y(once[0])); pen.stroke();
  pen.setLineDash([]);
  pen.textAlign = "left";
  pen.fillText(once[1], PAD + 6, y(once[0]) - 4);
}

// A view in its place: `paintView(part, view, palette, width, look)` draws into the four parts.
function stage({ model, el }, ready, paintView) {
  const root = document.createElement("div");
  root.className = "mm-step";
  root.innerHTML = `<style>${STYLE}</style><h4 class="mm-title"></h4><canvas class="mm-map" role="img"></canvas>
    <div class="mm-key"></div><canvas class="mm-curve" aria-hidden="true"></canvas>`;
  el.appendChild(root);
  const part = (name) => root.querySelector(name);
  let view = null, palette = null, drawn = 0;

  function paint() {
    if (!view || !root.clientWidth) return;
    part(".mm-title").textContent = view.title;
    part(".mm-map").setAttribute("aria-label", view.alt);
    paintView(part, view, palette, root.clientWidth, theme(root));
    root.dataset.drawn = String(++drawn);
  }
  function load() {
    const frame = model.get("frame");
    if (!frame || !ready(frame)) return;
    palette = bytes(model.get("palette"));
    view = frame;
    paint();
  }
  model.on("change:frame", load);
  const leave = followPlace(root, paint);
  load();
  return () => { model.off("change:frame", load); leave(); };
}
