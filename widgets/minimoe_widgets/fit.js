// Keeps a plot as wide as its container. A plot is born before it has a place on the page, 700 px wide, and afterwards
// follows the window only; this tells it, through the event it listens to, when it appears and when its place changes.

function render({ el }) {
  let waiting, width = 0;
  const fit = () => window.dispatchEvent(new Event("resize"));
  const placed = new ResizeObserver(() => {
    if (el.clientWidth !== width) { width = el.clientWidth; fit(); }
  });
  const appeared = new MutationObserver((_, observer) => {
    if (el.closest(".minimoe-plot")?.querySelector(".main-svg")) { observer.disconnect(); fit(); }
  });
  const start = () => {
    const box = el.closest(".minimoe-plot");
    if (!box) { waiting = requestAnimationFrame(start); return; }
    placed.observe(el);
    appeared.observe(box, { childList: true, subtree: true });
  };
  start();
  return () => {
    cancelAnimationFrame(waiting);
    placed.disconnect();
    appeared.disconnect();
  };
}

export default { render };
