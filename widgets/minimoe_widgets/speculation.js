// Two lanes of tokens on one clock: every box is one call of the trunk. Plays back one `frame` (see
// speculation_stream.py) and computes nothing but where the clock stands. No network, no library.

const PLAY_S = 7; // the slower lane takes this long, whatever the machine took

const STYLE = `
.mm-spec { font: 13px/1.4 var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-ui-font-color1, CanvasText);
  min-width: 0; max-width: 100%; box-sizing: border-box; padding: 4px 0; }
.mm-spec h4 { margin: 0 0 6px; font-size: 14px; font-weight: 600; }
.mm-spec .mm-clock { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; }
.mm-spec .mm-clock label { display: flex; flex: 1 1 200px; min-width: 0; gap: 8px; align-items: center; }
.mm-spec .mm-clock input { flex: 1 1 120px; min-width: 0; accent-color: #0072B2; }
.mm-spec button { font: inherit; padding: 2px 12px; }
.mm-spec .mm-count { margin: 8px 0 2px; }
.mm-spec .mm-bar { height: 6px; border: 1px solid currentColor; opacity: .75; }
.mm-spec .mm-bar div { height: 100%; background: #0072B2; width: 0; }
.mm-spec ol { list-style: none; margin: 4px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 3px; }
.mm-spec ol:focus-visible { outline: 2px solid var(--jp-brand-color1, #0072B2); outline-offset: 2px; }
.mm-spec li { display: inline-flex; border: 1px solid #8a8a8a; border-radius: 3px; padding: 0 1px; margin: 0;
  font: 12px/1.5 var(--jp-code-font-family, monospace); white-space: pre; }
.mm-spec li.mm-later { visibility: hidden; }
.mm-spec li.mm-here { outline: 2px solid currentColor; outline-offset: 0; }
.mm-spec span.mm-token { padding: 0 2px; }
.mm-spec span.mm-kept { background: #0072B2; color: #fff; }
.mm-spec span.mm-struck { background: #F3C7A6; color: #5a2000; text-decoration: line-through; }
.mm-spec .mm-key { display: flex; flex-wrap: wrap; gap: 4px 14px; margin-top: 8px; font-size: 12px; }
.mm-spec .mm-key span.mm-token { font: 12px/1.5 var(--jp-code-font-family, monospace); border: 1px solid #8a8a8a; }
.mm-spec .mm-say { min-height: 2.8em; margin-top: 4px; overflow-wrap: anywhere; }
`;

function make(tag, parent, className = "", text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

function words(step, number) {
  if (number === 0) return `Call 1 reads the prompt and gives “${step.tokens[0]}”.`;
  if (step.draft === null) return `Call ${number + 1} gives “${step.tokens.join("")}”.`;
  const chance = ` (chance ${step.chance.toFixed(2)})`;
  const own = step.kept ? step.tokens[1] : step.tokens[0];
  const verdict = step.kept ? "kept" : "rejected";
  const after = own === undefined ? "nothing more was wanted" : step.kept ? `and “${own}” comes with it` : `“${own}” stands instead`;
  return `Call ${number + 1} checks the draft “${step.draft}”: ${verdict}${chance}; ${after}.`;
}

function drawLane(parent, lane, say) {
  const count = make("div", parent, "mm-count"), bar = make("div", make("div", parent, "mm-bar"));
  const list = make("ol", parent);
  list.tabIndex = 0;
  list.setAttribute("aria-label", `${lane.name}: one box a call; arrow keys read them`);
  const boxes = lane.steps.map((step, number) => {
    const box = make("li", list);
    if (step.draft !== null && !step.kept) make("span", box, "mm-token mm-struck", step.draft);
    step.tokens.forEach((text, i) => make("span", box, i === 0 && step.kept ? "mm-token mm-kept" : "mm-token", text));
    box.addEventListener("pointerenter", () => point(number));
    return box;
  });
  let here = -1;
  function point(number) {
    boxes[here]?.classList.remove("mm-here");
    here = Math.max(0, Math.min(boxes.length - 1, number));
    boxes[here].classList.add("mm-here");
    say(words(lane.steps[here], here));
  }
  list.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    point(here + move);
  });
  list.addEventListener("blur", () => boxes[here]?.classList.remove("mm-here"));
  return (ms, whole) => {
    let calls = 0, tokens = 0;
    lane.steps.forEach((step, i) => {
      const done = step.end_ms <= ms + 1e-9;
      boxes[i].classList.toggle("mm-later", !done);
      if (done) { calls += 1; tokens += step.tokens.length; }
    });
    const own = Math.min(ms, lane.cpu_ms);
    bar.style.width = `${(100 * own) / whole}%`;
    count.textContent = `${lane.name}: ${tokens} tokens, ${calls} calls of the trunk, ${own.toFixed(1)} ms`;
  };
}

function drawKey(parent) {
  const key = make("div", parent, "mm-key");
  for (const [look, meaning] of [["mm-kept", "draft, kept"], ["mm-struck", "draft, rejected"], ["", "the trunk's own token"]]) {
    const item = make("span", key);
    make("span", item, `mm-token ${look}`, "abc");
    item.append(` ${meaning}`);
  }
  make("span", key, "", "one box: one call of the trunk");
}

function build(el, frame) {
  el.replaceChildren();
  make("style", el, "", STYLE);
  const root = make("div", el, "mm-spec");
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", frame.alt);
  make("h4", root, "", frame.title);
  const clock = make("div", root, "mm-clock"), button = make("button", clock, "", "Play");
  const label = make("label", clock, "", "Clock"), slider = make("input", label), shown = make("span", label);
  Object.assign(slider, { type: "range", min: 0, max: 1000, value: 1000 });
  const lanes = make("div", root);
  drawKey(root);
  const say = make("div", root, "mm-say");
  say.setAttribute("role", "status");
  say.textContent = "Point at a box to read what happened in that call.";
  const draws = frame.lanes.map((lane) => drawLane(lanes, lane, (text) => (say.textContent = text)));
  return { root, button, slider, at(share) {
    const ms = share * frame.cpu_ms;
    slider.value = Math.round(1000 * share);
    shown.textContent = `${ms.toFixed(1)} CPU ms`;
    draws.forEach((draw) => draw(ms, frame.cpu_ms));
    root.dataset.share = share.toFixed(3);
  } };
}

function render({ model, el }) {
  let waiting = 0;
  const stop = () => cancelAnimationFrame(waiting);
  function play(view) {
    stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) { view.at(1); return; }
    let start = null;
    const tick = (now) => {
      start ??= now;
      const share = Math.min(1, (now - start) / (1000 * PLAY_S));
      view.at(share);
      if (share < 1) waiting = requestAnimationFrame(tick);
    };
    view.at(0);
    waiting = requestAnimationFrame(tick);
  }
  function update() {
    const frame = model.get("frame");
    if (!frame.lanes) return;
    const view = build(el, frame);
    view.button.addEventListener("click", () => play(view));
    view.slider.addEventListener("input", () => { stop(); view.at(view.slider.value / 1000); });
    play(view);
  }
  model.on("change:frame", update);
  update();
  return () => { stop(); model.off("change:frame", update); };
}

export default { render };
