// A run of reinforcement learning: its curves, a slider over the recorded steps, and the answers of the chosen step as
// rows of tokens. Draws what rollout_view.py packs and computes nothing but pixels. No network, no library.

const MARKED = 0.05; // nats; a token that moved less has no bar above or below it
const LOOKS = {
  light: { none: [243, 243, 243], more: [107, 174, 214], less: [240, 148, 92], ink: "#000" },
  dark: { none: [42, 42, 42], more: [0, 94, 163], less: [160, 66, 8], ink: "#fff" },
};
const ROLL = `
.mm-roll { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; --more: #0072B2; --less: #B35400; }
.mm-roll.mm-dark { --more: #8ccbf0; --less: #ffb37a; }
.mm-roll { position: relative; }
.mm-roll h4 { margin: 6px 0 4px; font-size: 14px; font-weight: 600; min-height: 2.8em; overflow-wrap: anywhere; }
.mm-roll canvas { display: block; }
.mm-roll .mm-behind { font-size: 12px; }
.mm-roll :is(canvas, ol):focus-visible { outline: 2px solid var(--jp-brand-color1, #0072B2); outline-offset: -2px; }
.mm-roll .mm-step { display: flex; gap: 8px; align-items: center; margin-top: 8px; }
.mm-roll .mm-step input { flex: 1 1 auto; min-width: 60px; max-width: 640px; accent-color: #0072B2; }
.mm-roll .mm-step output { flex: none; min-width: 8.5em; }
.mm-roll .mm-key { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12px; align-items: center; }
.mm-roll ol { list-style: none; margin: 4px 0 0; padding: 4px; }
.mm-roll li { margin: 0 0 9px; padding-left: 6px; border-left: 3px solid #8a8a8a; }
.mm-roll li.mm-right { border-left-color: var(--more); }
.mm-roll li.mm-wrong { border-left-style: dotted; border-left-color: var(--less); }
.mm-roll .mm-facts { display: flex; flex-wrap: wrap; gap: 0 14px; align-items: center; }
.mm-roll .mm-facts b { min-width: 6.6em; }
.mm-roll .mm-long { min-width: 8.6em; }
.mm-roll .mm-adv { display: inline-flex; gap: 6px; align-items: center; }
.mm-roll .mm-bar { position: relative; width: 84px; height: 9px; border: 1px solid #8a8a8a; box-sizing: border-box; }
.mm-roll .mm-bar::after { content: ""; position: absolute; left: 50%; top: -3px; bottom: -3px; border-left: 1px solid currentColor; }
.mm-roll .mm-bar i { position: absolute; top: 0; bottom: 0; background: var(--more); }
.mm-roll .mm-bar i.mm-minus { background: var(--less); }
.mm-roll .mm-tokens { display: flex; flex-wrap: wrap; gap: 3px 2px; margin-top: 2px; }
.mm-roll .mm-tokens span, .mm-roll .mm-key span.mm-chip { font: 12px/1.35 var(--jp-code-font-family, monospace);
  white-space: pre; padding: 0 3px; border: solid transparent; border-width: 3px 0; background-clip: padding-box; }
.mm-roll span.mm-more { border-top-color: var(--more) !important; }
.mm-roll span.mm-less { border-bottom-color: var(--less) !important; }
.mm-roll span.mm-here { outline: 2px solid currentColor; outline-offset: 0; position: relative; }
.mm-roll .mm-say { min-height: 1.4em; overflow-wrap: anywhere; }
.mm-roll .mm-tip { position: absolute; z-index: 2; max-width: 260px; padding: 3px 7px; pointer-events: none; font-size: 12px;
  background: var(--jp-layout-color0, Canvas); border: 1px solid currentColor; border-radius: 3px; }
.mm-roll .mm-tip:empty { display: none; }
@media (max-width: 640px) { .mm-roll .mm-say { min-height: 4.2em; } .mm-roll .mm-step output { min-width: 5em; } }
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
  add("span", line, "mm-long", `${row.pieces.length} tokens, ${row.ended ? "ended" : "cut off"}`);
  const parts = row.parts.map(([name, value]) => `${name} ${short(value)}`).join(", ");
  add("span", line, "", `reward ${row.reward.toFixed(2)}${parts ? ` (${parts})` : ""}`);
  const advantage = add("span", line, "mm-adv", `advantage ${signed(row.advantage)}`), bar = add("span", advantage, "mm-bar");
  bar.setAttribute("aria-hidden", "true");
  const fill = add("i", bar, row.advantage < 0 ? "mm-minus" : ""), width = 50 * Math.min(Math.abs(row.advantage) / most, 1);
  Object.assign(fill.style, { width: `${width}%`, left: row.advantage < 0 ? `${50 - width}%` : "50%" });
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
  return `Answer ${row.number}, token ${n + 1} “${row.pieces[n]}”: log-ratio ${signed(ratio)}, ${change} at the start of the run ` +
    `(chance ${short(row.policy[n])}, at the start ${short(row.reference[n])}).`;
}

function drawKey(key, group, look) {
  key.replaceChildren();
  const item = (ratio, text) => {
    const one = add("span", key);
    chip(one, "ab", ratio, group.limit, look).classList.add("mm-chip");
    one.append(` ${text}`);
  };
  const factor = Math.exp(group.limit).toFixed(1);
  item(2 * group.limit, `bar above: more likely than at the start of the run (full colour from +${group.limit.toFixed(0)} nat, ${factor} times)`);
  item(-2 * group.limit, "bar below: less likely");
  item(0, "as likely");
}

function build(el) {
  const root = add("div", el, "mm-roll");
  add("style", root, "", ROLL);
  const curves = add("canvas", root, "mm-curves"), behind = add("div", root, "mm-behind");
  const step = add("div", root, "mm-step", "Step"), slider = add("input", step), shown = add("output", step);
  curves.tabIndex = 0;
  curves.setAttribute("role", "img");
  Object.assign(slider, { type: "range", min: 0, max: 0, step: 1, ariaLabel: "Step" });
  const title = add("h4", root), key = add("div", root, "mm-key"), say = add("div", root, "mm-say");
  say.setAttribute("role", "status");
  const list = add("ol", root), tip = add("div", root, "mm-tip");
  list.tabIndex = 0;
  tip.setAttribute("aria-hidden", "true"); // the status line says the same
  return { root, curves, behind, slider, shown, title, key, say, list, tip };
}

const IDLE = "Point at a token, or focus the answers and use the arrow keys, to read its chance.";
const TOKEN_KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const STEP_KEYS = { ArrowLeft: -1, ArrowRight: 1, PageDown: -5, PageUp: 5, Home: -1e6, End: 1e6 };

function taken(event) {
  event.preventDefault();
  event.stopPropagation();
}

// The rows of answers, and the one token that is pointed at; gives what draws a group, and what lets go of the token.
function makeAnswers({ root, title, key, list, tip }, tell) {
  let group = null, chips = [], here = null;
  const chosen = () => here && chips[here.row]?.[here.n];
  function forget() {
    chosen()?.classList.remove("mm-here");
    here = null;
    tip.textContent = "";
    tell(group ? IDLE : "");
  }
  function point(row, n) {
    chosen()?.classList.remove("mm-here");
    row = clamp(row, 0, chips.length - 1);
    here = { row, n: clamp(n, 0, Math.max(chips[row].length - 1, 0)) };
    const token = chosen();
    if (!token) return;
    token.classList.add("mm-here");
    tell(tip.textContent = wordsOf(group.rows[row], here.n));
    const at = token.getBoundingClientRect(), box = root.getBoundingClientRect();
    tip.style.left = `${clamp(at.left - box.left, 0, Math.max(box.width - 264, 0))}px`;
    const below = at.bottom - box.top + 4, room = below + tip.offsetHeight <= box.height;
    tip.style.top = `${room ? below : at.top - box.top - tip.offsetHeight - 4}px`;
  }
  list.addEventListener("keydown", (event) => {
    const move = TOKEN_KEYS[event.key];
    if (!move || !chips.length) return;
    taken(event);
    here ? point(here.row + move[0], here.n + move[1]) : point(0, 0);
  });
  list.addEventListener("blur", forget);
  list.addEventListener("pointerleave", () => { if (document.activeElement !== list) forget(); });
  list.addEventListener("pointerover", (event) => {
    const row = chips.findIndex((line) => line.includes(event.target));
    if (row >= 0) point(row, chips[row].indexOf(event.target));
  });
  function draw(next, look) {
    group = next;
    title.textContent = group?.title ?? "";
    list.setAttribute("aria-label", group ? `${group.alt} Arrow keys move from token to token.` : "no answers");
    chips = group ? drawRows(list, group, look) : [];
    if (group) drawKey(key, group, look);
    else { list.replaceChildren(); key.replaceChildren(); }
    if (group && !chips.length) add("li", list, "", `None of the ${group.of} answers of this step is wrong.`);
    here && chips.length ? point(here.row, here.n) : forget();
  }
  return { draw, forget };
}

function render({ model, el }) {
  const parts = build(el), steps = () => model.get("steps");
  const tell = (text) => { if (parts.say.textContent !== text) parts.say.textContent = text; };
  const answers = makeAnswers(parts, tell);
  let curves = null, size = null, drawn = 0;

  // The slider and the mark in the curves follow the finger at once; the answers follow when the kernel has sent them.
  function mark() {
    const all = steps(), at = model.get("at"), text = at === 0 ? "0, before training" : `${at}`;
    Object.assign(parts.slider, { max: Math.max(all.length - 1, 0), value: Math.max(all.indexOf(at), 0), disabled: all.length < 2 });
    parts.slider.setAttribute("aria-valuetext", `step ${text}`);
    parts.shown.textContent = all.length ? `${at} of ${all[all.length - 1]}` : "none recorded";
    const width = parts.root.clientWidth;
    if (curves && width) size = drawCurves(parts.curves, curves, all.length ? at : null, width, theme(parts.root));
  }
  function show() {
    const group = model.get("group"), dark = theme(parts.root).dark;
    parts.root.classList.toggle("mm-dark", dark);
    answers.draw(group?.rows ? group : null, dark ? LOOKS.dark : LOOKS.light);
    parts.root.dataset.step = group?.rows ? String(group.step) : "";
    parts.root.dataset.drawn = String(++drawn); // a counter that tests and timings can wait for
  }
  function load() {
    const frame = model.get("curves");
    curves = frame?.panels ? unpackCurves(frame) : null;
    parts.curves.setAttribute("aria-label", curves ? `${curves.alt} Arrow keys and a click choose a step.` : "no curves");
    parts.behind.textContent = curves?.panels.some((panel) => panel.band) ? curves.band : "";
    mark();
  }
  function choose(index) {
    const all = steps(), step = all[clamp(index, 0, all.length - 1)];
    if (step === undefined || step === model.get("at")) return;
    model.set("at", step); // which calls `mark`
    model.save_changes();
  }
  function stepAt(event) {
    const inside = (one) => event.offsetX >= one.left - 8 && event.offsetX <= one.left + one.width + 8 &&
      event.offsetY >= one.top - PLOT_TOP && event.offsetY <= one.top + one.height + PLOT_FOOT;
    return size?.places.find(inside)?.step(event.offsetX);
  }
  followCurves(parts, { steps, choose, stepAt, at: () => model.get("at"), tell, forget: answers.forget, read: (step) => curvesAt(curves, step) });
  const events = [["change:curves", load], ["change:group", show], ["change:steps", mark], ["change:at", mark]];
  events.forEach(([name, act]) => model.on(name, act));
  const leave = followPlace(parts.root, () => { mark(); show(); });
  load();
  show();
  return () => {
    events.forEach(([name, act]) => model.off(name, act));
    leave();
  };
}

// The slider, and the curves as a second one: click or arrow keys choose a step, pointing reads one.
function followCurves({ slider, curves }, { steps, choose, stepAt, at, tell, forget, read }) {
  slider.addEventListener("input", () => choose(Number(slider.value)));
  curves.addEventListener("keydown", (event) => {
    const by = STEP_KEYS[event.key];
    if (!by) return;
    taken(event);
    choose(steps().indexOf(at()) + by);
  });
  curves.addEventListener("click", (event) => {
    const step = stepAt(event), all = steps();
    if (step === undefined || !all.length) return;
    choose(all.reduce((best, one, i) => (Math.abs(one - step) < Math.abs(all[best] - step) ? i : best), 0));
  });
  curves.addEventListener("pointermove", (event) => {
    const step = stepAt(event);
    if (step !== undefined) tell(read(step));
  });
  curves.addEventListener("pointerleave", forget);
}

export default { render };
