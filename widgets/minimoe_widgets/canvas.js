// What every canvas needs: bytes as numbers, the page's colours, a canvas as sharp as the screen. canvas.py puts this in
// front of a widget's own script.

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
// A DataView may start at any byte; Float32Array may not, so the bytes are copied to a buffer of their own.
const floats = (view) => new Float32Array(bytes(view).slice().buffer);
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));
const show = (x) => (Math.abs(x) < 10 ? x.toFixed(3) : x.toPrecision(4));

function theme(el) {
  const style = getComputedStyle(el);
  const rgb = (style.color.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
  const dark = rgb[0] + rgb[1] + rgb[2] > 384; // light text stands on a dark page
  return { ink: style.color, dark, empty: dark ? [38, 38, 38] : [245, 245, 245], font: style.fontFamily };
}

// The strongest value contrasts most with the page: dark on a light page, light on a dark one.
function shadeColour(palette, value, dark) {
  const at = 3 * (dark ? value : 255 - value);
  return [palette[at], palette[at + 1], palette[at + 2]];
}

function sizeCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

// Calls `paint` whenever the width of `root` or the colour of its text has changed; gives a function that ends this.
function followPlace(root, paint) {
  const ink = () => getComputedStyle(root).color;
  let width = root.clientWidth, colour = ink();
  function look() { // painting changes the height; only a new width or ink is a reason to paint again
    if (!root.clientWidth || (root.clientWidth === width && ink() === colour)) return;
    width = root.clientWidth;
    colour = ink();
    paint();
  }
  const resized = new ResizeObserver(look);
  resized.observe(root);
  // JupyterLab hides the page for a moment when it announces a theme, and the style sheet may arrive after the news:
  // look again for a while. No event says that the page is shown with its new colours.
  let waiting = null;
  const themed = new MutationObserver(() => {
    clearInterval(waiting);
    look();
    const since = Date.now();
    waiting = setInterval(() => {
      look();
      if (Date.now() - since > 30_000) clearInterval(waiting);
    }, 100);
  });
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class"] });
  return () => { resized.disconnect(); themed.disconnect(); clearInterval(waiting); };
}
