// Mouse and touch on the canvas: orbit, pan and zoom.

/** Pressed pointers by their id. @type {Map<number, {x: number, y: number}>} */
const pointers = new Map();

/** Connects the canvas to mouse and touch. */
function initPointer() {
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  };
  canvas.onpointermove = onPointerMove;
  canvas.onpointerup = canvas.onpointercancel = (event) => { pointers.delete(event.pointerId); };
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.ondblclick = resetView;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(0.0012 * Math.max(-300, Math.min(event.deltaY, 300))));
  }, { passive: false });
}

/**
 * One pointer orbits, or pans with the right or middle button or Shift; two pan and zoom.
 * @param {PointerEvent} event
 */
function onPointerMove(event) {
  const pointer = pointers.get(event.pointerId);
  if (!pointer) return;
  const [dx, dy] = [event.clientX - pointer.x, event.clientY - pointer.y];
  const isPinch = pointers.size === 2;
  const previousSpread = isPinch ? pointerSpread() : 0;
  Object.assign(pointer, { x: event.clientX, y: event.clientY });
  if (isPinch) {
    panBy(dx / 2, dy / 2);
    zoomBy(previousSpread / Math.max(pointerSpread(), 1));
  } else if (event.buttons & 6 || event.shiftKey) panBy(dx, dy);
  else orbitBy(dx, dy);
  onViewChange();
}

/** Distance between two pressed pointers. */
function pointerSpread() {
  const [a, b] = [...pointers.values()];
  return Math.hypot(a.x - b.x, a.y - b.y);
}

/**
 * Rotates the orbit camera.
 * @param {number} dx - Pixels.
 * @param {number} dy - Pixels.
 */
function orbitBy(dx, dy) {
  orbit.yaw += 0.006 * dx;
  orbit.pitch = Math.min(Math.max(orbit.pitch - 0.006 * dy, -1.55), 1.55);
}

/**
 * Moves the pivot parallel to the image plane.
 * @param {number} dx - Pixels.
 * @param {number} dy - Pixels.
 */
function panBy(dx, dy) {
  const pose = orbitPose();
  const unitsPerPixel = orbit.distance / (viewProjection().focal / (canvas.width / canvas.clientWidth));
  orbit.pivot = add(add(orbit.pivot, column(pose, 0), -dx * unitsPerPixel), column(pose, 1), -dy * unitsPerPixel);
}

/**
 * Multiplies the distance to the pivot.
 * @param {number} factor
 */
function zoomBy(factor) {
  orbit.distance = Math.min(Math.max(orbit.distance * factor, 0.02 * scene.typical_depth), 50 * scene.typical_depth);
  onViewChange();
}

/** Switches to the orbit camera after the user has moved it. */
function onViewChange() {
  input("camera-view").checked = false;
  element("hint").classList.add("hidden");
  state.dirty = true;
}
