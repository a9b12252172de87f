// A run of reinforcement learning: its curves, a slider over the recorded steps, and the answers of the chosen step as
// rows of tokens. Draws what rollout_view.py packs and computes nothing but pixels. No network, no library.

const MARKED = 0.05; // nats; a token that moved less has no bar above or below it
const LOOKS = {
  light: { none: [255, 255, 255], more: [107, 174, 214], less: [240, 148, 92], ink: "#000" },
  dark: { none: [34, 34, 34], more: [0, 94, 163], less: [160, 66, 8], ink: "#fff" },
};
const ROLL = `
.mm-roll { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; --more: #0072B2; --less: #B35400; }
.mm-roll.mm-dark { --more: #8ccbf0; --less: #ffb37a; }
.mm-roll h4 { margin: 6px 0; font-size: 14px; font-weight: 600; min-height: 2.8em; overflow-wrap: anywhere; }
.mm-roll canvas { display: block; }
.mm-roll :is(canvas, ol):focus-visible { outline: 2px solid var(--jp-brand-color1, #0072B2); outline-offset: 1px; }
.mm-roll .mm-step { display: flex; gap: 8px; align-items: center; margin-top: 8px; }
.mm-roll .mm-step input { flex: 1 1 auto; min-width: 60px; max-width: 640px; accent-color: #0072B2; }
.mm-roll .mm-step output { flex: none; min-width: 8.5em; }
.mm-roll .mm-key { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; align-items: center; }
.mm-roll ol { list-style: none; margin: 6px 0 0; padding: 0; }
.mm-roll li { margin: 0 0 9px; padding-left: 6px; border-left: 3px solid #8a8a8a; }
.mm-roll li.mm-right { border-left-color: var(--more); }
.mm-roll li.mm-wrong { border-left-style: dotted; border-left-color: var(--less); }
.mm-roll .mm-facts { display: flex; flex-wrap: wrap; gap: 0 14px; align-items: center; }
.mm-roll .mm-facts b { min-width: 5.6em; }
.mm-roll .mm-adv { display: inline-flex; gap: 6px; align-items: center; }
.mm-roll .mm-bar { position: relative; width: 84px; height: 9px; border: 1px solid #8a8a8a; box-sizing: border-box; }
.mm-roll .mm-bar::after { content: ""; position: absolute; left: 50%; top: -3px; bottom: -3px; border-left: 1px solid currentColor; }
.mm-roll .mm-bar i { position: absolute; top: 0; bottom: 0; background: var(--more); }
.mm-roll .mm-bar i.mm-minus { background: var(--less); }
.mm-roll .mm-tokens { display: flex; flex-wrap: wrap; gap: 3px 2px; margin-top: 2px; }
.mm-roll .mm-tokens span, .mm-roll .mm-key span.mm-chip { font: 12px/1.35 var(--jp-code-font-family, monospace);
  white-space: pre; padding: 0 3px; border: 1px solid rgba(138,138,138,.55); border-width: 3px 1px;
  border-top-color: transparent; border-bottom-color: transparent; background-clip: padding-box; }
.mm-roll span.mm-more { border-top-color: var(--more) !important; }
.mm-roll span.mm-less { border-bottom-color: var(--less) !important; }
.mm-roll span.mm-here { outline: 2px solid currentColor; outline-offset: 0; position: relative; }
.mm-roll .mm-say { min-height: 2.8em; overflow-wrap: anywhere; }
@media (max-width: 480px) { .mm-roll .mm-facts { gap: 0 10px; } .mm-roll .mm-step output { min-width: 6em; } }
`;

function add(tag, parent, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== "") node.textContent = text;
  parent.append(node);
  return node;
}

const signed = (x, digits = 2) => (Math.abs(x) < 0.5 * 10 ** -digits ? (0).toFixed(digits) : (x > 0 ? "+" : "−") + Math.abs(x).toFixed(digits));
const times = (x) => (x < 100 ? x.toFixed(1) : x < 1e5 ? x.toFixed(0) : x.toExponential(0));

function tint(ratio, limit, look) {
  const share = Math.min(Math.abs(ratio) / limit, 1), end = ratio > 0 ? look.more : look.less;
  return `rgb(${look.none.map((from, i) => Math.round(from + share * (end[i] - from)))})`;
}

function chip(parent, text, ratio, limit, look) {
  const span = add("span", parent, ratio >= MARKED ? "mm-more" : ratio <= -MARKED ? "mm-less" : "", text);
  span.style.background = tint(ratio, limit, look);
  span.style.color = look.ink;
  return span;
}

function facts(item, row, most) {
  const line = add("div", item, "mm-facts");
  add("b", line, "", `${row.number}${row.verdict ? ` ${row.verdict === "right" ? "✓" : "✗"} ${row.verdict}` : ""}`);
  const parts = row.parts.map(([name, value]) => `${name} ${short(value)}`).join(", ");
  add("span", line, "", `reward ${row.reward.toFixed(2)}${parts ? ` (${parts})` : ""}`);
  const advantage = add("span", line, "mm-adv", `advantage ${signed(row.advantage)}`), bar = add("span", advantage, "mm-bar");
  bar.setAttribute("aria-hidden", "true");
  const fill = add("i", bar, row.advantage < 0 ? "mm-minus" : ""), width = 50 * Math.min(Math.abs(row.advantage) / most, 1);
  Object.assign(fill.style, { width: `${width}%`, left: row.advantage < 0 ? `${50 - width}%` : "50%" });
  add("span", line, "", `${row.pieces.length} tokens, ${row.ended ? "ended" : "cut off"}`);
}

function drawRows(list, group, look) {
  list.replaceChildren();
  return group.rows.map((row) => {
    const item = add("li", list, row.verdict ? `mm-${row.verdict}` : "");
    facts(item, row, group.most);
    const tokens = add("div", item, "mm-tokens");
    return row.pieces.map((piece, i) => chip(tokens, piece, row.ratio[i], group.limit, look));
  });
}

function wordsOf(row, n) {
  const ratio = row.ratio[n], factor = Math.exp(Math.abs(ratio));
  const change = Math.abs(ratio) < 0.005 ? "as likely as" : `${times(factor)} times ${ratio > 0 ? "more" : "less"} likely than`;
  return `Answer ${row.number}, token ${n + 1} “${row.pieces[n]}”: log-ratio ${signed(ratio)}, ${change} for the reference ` +
    `(chance ${short(row.policy[n])}, reference ${short(row.reference[n])}).`;
}

function drawKey(key, group, look, band) {
  key.replaceChildren();
  const limit = group.limit.toFixed(0), far = 2 * group.limit;
  const item = (ratio, text) => {
    const one = add("span", key);
    const sample = chip(one, "ab", ratio, group.limit, look);
    sample.classList.add("mm-chip");
    one.append(` ${text}`);
  };
  item(far, `bar above: more likely than for the reference (full colour from +${limit} nat, ${Math.exp(group.limit).toFixed(1)} times)`);
  item(-far, `bar below: less likely`);
  item(0, "as likely");
  if (band) add("span", key, "", band);
}

function build(el) {
  const root = add("div", el, "mm-roll");
  add("style", root, "", ROLL);
  const curves = add("canvas", root, "mm-curves"), step = add("div", root, "mm-step", "Step");
  Object.assign(curves, { tabIndex: 0 });
  curves.setAttribute("role", "img");
  const slider = add("input", step), shown = add("output", step);
  Object.assign(slider, { type: "range", min: 0, max: 0, step: 1, ariaLabel: "Step" });
  const title = add("h4", root), key = add("div", root, "mm-key"), say = add("div", root, "mm-say");
  say.setAttribute("role", "status");
  const list = add("ol", root);
  list.tabIndex = 0;
  return { root, curves, slider, shown, title, key, say, list };
}

const IDLE = "Point at a token, or focus the answers and use the arrow keys, to read its chance.";

function render({ model, el }) {
  const parts = build(el);
  let curves = null, size = null, group = null, chips = [], here = null, drawn = 0;
  const steps = () => model.get("steps");
  const tell = (text) => { if (parts.say.textContent !== text) parts.say.textContent = text; };

  function choose(index) {
    const all = steps();
    if (!all.length) return;
    const step = all[clamp(index, 0, all.length - 1)];
    if (step === model.get("at")) return;
    model.set("at", step);
    model.save_changes();
    mark();
  }
  // The slider and the mark in the curves follow the finger at once; the answers follow when the kernel has sent them.
  function mark() {
    const all = steps(), at = model.get("at"), index = Math.max(all.indexOf(at), 0), text = at === 0 ? "0, before training" : `${at}`;
    Object.assign(parts.slider, { max: Math.max(all.length - 1, 0), value: index, disabled: all.length < 2 });
    parts.slider.setAttribute("aria-valuetext", `step ${text}`);
    parts.shown.textContent = all.length ? `${text} of ${all[all.length - 1]}` : "none recorded";
    const width = parts.root.clientWidth;
    if (curves && width) size = drawCurves(parts.curves, curves, all.length ? at : null, width, theme(parts.root));
  }
  function answers() {
    const look = theme(parts.root).dark ? LOOKS.dark : LOOKS.light;
    parts.root.classList.toggle("mm-dark", look === LOOKS.dark);
    parts.title.textContent = group?.title ?? "";
    parts.list.setAttribute("aria-label", group ? `${group.alt} Arrow keys move from token to token.` : "no answers");
    if (!group?.rows) { parts.list.replaceChildren(); parts.key.replaceChildren(); chips = []; tell(""); return; }
    chips = drawRows(parts.list, group, look);
    drawKey(parts.key, group, look, curves?.panels.some((panel) => panel.band) ? curves.band : "");
    if (group.rows.length === 0) add("li", parts.list, "", `None of the ${group.of} answers of this step is wrong.`);
    here ? point(here.row, here.n) : tell(IDLE);
    parts.root.dataset.step = String(group.step);
    parts.root.dataset.drawn = String(++drawn); // a counter that tests and timings can wait for
  }
  function point(row, n) {
    if (!chips.length) { here = null; return; }
    if (here) chips[here.row]?.[here.n]?.classList.remove("mm-here");
    row = clamp(row, 0, chips.length - 1);
    n = clamp(n, 0, chips[row].length - 1);
    here = { row, n };
    chips[row][n]?.classList.add("mm-here");
    if (chips[row][n]) tell(wordsOf(group.rows[row], n));
  }
  function forget() {
    if (here) chips[here.row]?.[here.n]?.classList.remove("mm-here");
    here = null;
    tell(IDLE);
  }
  function move(event) {
    const [down, right] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key] ?? [];
    if (down === undefined || !chips.length) return;
    event.preventDefault();
    event.stopPropagation();
    here ? point(here.row + down, here.n + right) : point(0, 0);
  }
  function scrub(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageDown: -5, PageUp: 5, Home: -1e6, End: 1e6 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    choose(steps().indexOf(model.get("at")) + by);
  }
  function place(event) {
    return size?.places.find((one) => event.offsetX >= one.left - 8 && event.offsetX <= one.left + one.width + 8 &&
      event.offsetY >= one.top - PLOT_TOP && event.offsetY <= one.top + one.height + PLOT_FOOT);
  }
  function nearest(event) {
    const step = place(event)?.step(event.offsetX), all = steps();
    if (step === undefined || !all.length) return;
    choose(all.reduce((best, one, i) => (Math.abs(one - step) < Math.abs(all[best] - step) ? i : best), 0));
  }
  function read(event) {
    const step = place(event)?.step(event.offsetX);
    if (step !== undefined) tell(curvesAt(curves, clamp(Math.round(step), curves.first, curves.last)));
  }
  const all = () => { mark(); answers(); };
  const onCurves = () => {
    const frame = model.get("curves");
    curves = frame?.panels ? unpackCurves(frame) : null;
    parts.curves.setAttribute("aria-label", curves ? `${curves.alt} Arrow keys and a click choose a step.` : "no curves");
    all();
  };
  const onGroup = () => {
    group = model.get("group");
    if (!group?.title) group = null;
    all();
  };
  parts.slider.addEventListener("input", () => choose(Number(parts.slider.value)));
  parts.curves.addEventListener("keydown", scrub);
  parts.curves.addEventListener("click", nearest);
  parts.curves.addEventListener("pointermove", read);
  parts.curves.addEventListener("pointerleave", forget);
  parts.list.addEventListener("keydown", move);
  parts.list.addEventListener("blur", forget);
  parts.list.addEventListener("pointerleave", () => { if (document.activeElement !== parts.list) forget(); });
  parts.list.addEventListener("pointerover", (event) => {
    const row = chips.findIndex((line) => line.includes(event.target));
    if (row >= 0) point(row, chips[row].indexOf(event.target));
  });
  const events = [["change:curves", onCurves], ["change:group", onGroup], ["change:steps", mark], ["change:at", mark]];
  events.forEach(([name, act]) => model.on(name, act));
  const leave = followPlace(parts.root, all);
  group = model.get("group")?.title ? model.get("group") : null;
  onCurves();
  return () => {
    events.forEach(([name, act]) => model.off(name, act));
    leave();
  };
}

export default { render };
