// Starts the viewer.

canvas.addEventListener("webglcontextlost", () => {
  element("message").textContent = "The WebGL context was lost. Reload the page.";
});
initControls();
initPointer();
resetView();
setMode(MODE.RGB);
showFrame(0);
requestAnimationFrame(tick);
loadAll();
