// The curves of a stage: up to four plots on one canvas, each with its band behind, and the chosen step marked in all.
// Stands between canvas.js and rollout.js in one module. Computes nothing but pixels.

const PLOT_LEFT = 44, PLOT_RIGHT = 62, PLOT_TOP = 20, PLOT_FOOT = 18, FRAME = "#8A8A8A", WIDE = 620;
const INKS = { light: ["#0072B2", "#B35400"], dark: ["#56B4E9", "#E69F00"] };

function unpackCurves(curves) {
  const series = ([name, steps, values]) => ({ name, steps: floats(steps), values: floats(values) });
  const band = ([name, steps, low, high]) => ({ name, steps: floats(steps), low: floats(low), high: floats(high) });
  return { ...curves, panels: curves.panels.map((panel) => ({ ...panel, series: panel.series.map(series),
    band: panel.band && band(panel.band) })) };
}

// Where the plots stand: two beside each other where there is room, else one below the other.
function placeCurves(curves, width) {
  const across = width >= WIDE ? 2 : 1, tall = width >= WIDE ? 74 : 58, each = width / across;
  const places = curves.panels.map((panel, i) => {
    const left = (i % across) * each + PLOT_LEFT, top = Math.floor(i / across) * (PLOT_TOP + tall + PLOT_FOOT) + PLOT_TOP;
    return { panel, left, top, width: Math.max(each - PLOT_LEFT - PLOT_RIGHT, 60), height: tall };
  });
  const span = Math.max(curves.last - curves.first, 1);
  for (const place of places) {
    place.x = (step) => place.left + ((step - curves.first) / span) * place.width;
    place.y = (value) => place.top + place.height * (1 - (value - place.panel.bottom) / (place.panel.top - place.panel.bottom || 1));
    place.step = (x) => curves.first + ((x - place.left) / place.width) * span;
  }
  const rows = Math.ceil(curves.panels.length / across);
  return { places, width, height: rows * (PLOT_TOP + tall + PLOT_FOOT) };
}

const short = (x) => (x === 0 ? "0" : Math.abs(x) >= 100 ? x.toFixed(0) : String(Number(x.toPrecision(2))));

function drawFrame(pen, place, curves, look) {
  pen.strokeStyle = FRAME;
  pen.lineWidth = 1;
  pen.setLineDash([]);
  pen.strokeRect(Math.round(place.left) - 0.5, Math.round(place.top) - 0.5, Math.round(place.width) + 1, place.height + 1);
  pen.fillStyle = look.ink;
  pen.textAlign = "left";
  pen.fillText(place.panel.title, place.left - PLOT_LEFT + 4, place.top - 10);
  pen.textAlign = "right";
  pen.fillText(short(place.panel.top), place.left - 4, place.top + 6);
  pen.fillText(short(place.panel.bottom), place.left - 4, place.top + place.height - 4);
  pen.textAlign = "center";
  pen.fillText(`${curves.first}`, place.left, place.top + place.height + 9);
  pen.fillText(`step ${curves.last}`, place.left + place.width - 10, place.top + place.height + 9);
}

function drawBand(pen, place) {
  const { steps, low, high } = place.panel.band, at = [...steps.keys()].filter((i) => low[i] === low[i] && high[i] === high[i]);
  pen.beginPath();
  at.forEach((i) => pen.lineTo(place.x(steps[i]), place.y(low[i])));
  at.reverse().forEach((i) => pen.lineTo(place.x(steps[i]), place.y(high[i])));
  pen.fillStyle = "rgba(138,138,138,0.38)";
  pen.fill(); // the caller has clipped: a band may be longer than the run
}

function drawSeries(pen, place, inks, at) {
  [...place.panel.series.keys()].reverse().forEach((i) => { // the one that matters most is drawn last, on top
    const { steps, values } = place.panel.series[i];
    pen.strokeStyle = pen.fillStyle = inks[i];
    pen.lineWidth = i ? 1.4 : 2;
    pen.setLineDash(i ? [4, 2] : []);
    pen.beginPath();
    steps.forEach((step, n) => pen.lineTo(place.x(step), place.y(values[n])));
    pen.stroke();
    const here = steps.indexOf(at);
    if (here >= 0 || steps.length === 1) dot(pen, place.x(steps[Math.max(here, 0)]), place.y(values[Math.max(here, 0)]));
  });
}

function dot(pen, x, y) {
  pen.beginPath();
  pen.arc(x, y, 3.5, 0, 2 * Math.PI);
  pen.fill();
}

// The names stand at the ends of their curves, pushed apart where these meet.
function drawNames(pen, place, inks) {
  const { series } = place.panel, end = Math.max(...series.map(({ steps }) => steps[steps.length - 1]));
  const names = series.map(({ name, values }, i) => ({ name, ink: inks[i], y: place.y(values[values.length - 1]) }));
  names.sort((a, b) => a.y - b.y);
  const free = 13, last = place.top + place.height - 3;
  names.forEach((one, i) => { one.y = Math.max(one.y, place.top + 5, i ? names[i - 1].y + free : 0); });
  names.reverse().forEach((one, i) => { one.y = Math.min(one.y, i ? names[i - 1].y - free : last); });
  pen.textAlign = "left";
  for (const one of names) {
    pen.fillStyle = one.ink;
    pen.fillText(one.name, place.x(end) + 6, one.y);
  }
}

function drawChosen(pen, place, look, step) {
  pen.strokeStyle = look.ink;
  pen.lineWidth = 1.2;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.moveTo(place.x(step), place.top);
  pen.lineTo(place.x(step), place.top + place.height);
  pen.stroke();
  pen.setLineDash([]);
}

function drawCurves(canvas, curves, step, width, look) {
  const size = placeCurves(curves, width), pen = sizeCanvas(canvas, size.width, size.height);
  const inks = look.dark ? INKS.dark : INKS.light;
  pen.font = `11px ${look.font}`;
  pen.textBaseline = "middle";
  for (const place of size.places) {
    drawFrame(pen, place, curves, look);
    if (place.panel.series.length === 0) {
      pen.textAlign = "center";
      pen.fillText("not recorded", place.left + place.width / 2, place.top + place.height / 2);
    }
    pen.save();
    pen.beginPath();
    pen.rect(place.left - 4, place.top - 4, place.width + 8, place.height + 8);
    pen.clip();
    if (place.panel.band) drawBand(pen, place);
    drawSeries(pen, place, inks, step);
    if (step !== null) drawChosen(pen, place, look, step);
    pen.restore();
    drawNames(pen, place, inks);
  }
  return size;
}

// What the curves say at a step: the newest value up to there of each.
function curvesAt(curves, place) {
  const said = [], step = clamp(Math.round(place), curves.first, curves.last);
  for (const panel of curves.panels) for (const { name, steps, values } of panel.series) {
    const n = steps.findLastIndex((one) => one <= step);
    if (n >= 0) said.push(`${panel.title.split(" (")[0]}${panel.series.length > 1 ? `, ${name}` : ""} ${short(values[n])}`);
  }
  return `step ${step}: ${said.join(" · ") || "no curve begins before it"}`;
}

