// The control panel, the playback bar and the keyboard.

/** The step of log(depth) between neighboring pixels above which points are hidden; 0 hides none. */
function edgeThreshold() {
  const value = Number(input("edges").value);
  return value > 0 ? 0.5 * 0.04 ** value : 0; // down to 2 % of the depth
}

/**
 * Shows a frame.
 * @param {number} t
 */
function showFrame(t) {
  state.frame = t;
  input("time").value = String(t);
  element("frame").textContent = `${t + 1} / ${numFrames}`;
  state.dirty = true;
}

/**
 * Starts or pauses playback.
 * @param {boolean} playing
 */
function setPlaying(playing) {
  state.playbackTouched = true;
  state.playing = playing && numFrames > 1;
  element("icon").setAttribute("d", state.playing ? "M4 3h4v14H4zM12 3h4v14h-4z" : "M5 3l12 7-12 7z");
}

/**
 * Selects what the colors of the points show; modes without data are ignored.
 * @param {number} mode - See MODE.
 */
function setMode(mode) {
  if ((mode === MODE.CONFIDENCE && !scene.has_confidence) || (mode === MODE.ORIGIN && !scene.has_origin)) return;
  state.mode = mode;
  for (const button of modeButtons()) button.setAttribute("aria-pressed", String(Number(button.dataset.mode) === mode));
  element("legend").hidden = mode === MODE.RGB || mode === MODE.ORIGIN;
  element("origins").hidden = mode !== MODE.ORIGIN;
  /** @param {number} value */
  const short = (value) => Number(value.toPrecision(3)).toString();
  const [near, far] = scene.depth_range;
  const labels = [["", ""], [`far ${short(far)}`, `near ${short(near)}`], ["static", `${short(scene.motion_range)} per frame`], ["0", "1"], ["", ""]];
  [element("low").textContent, element("high").textContent] = labels[mode];
  const stops = COLORMAPS[mode];
  element("ramp").style.background = stops ? `linear-gradient(90deg, ${stops.join(",")})` : "";
  state.dirty = true;
}

/** Fills the panels from the scene's description and connects their controls. */
function initControls() {
  initDetails();
  initPlayback();
  for (const button of modeButtons()) button.onclick = () => setMode(Number(button.dataset.mode));
  const confidence = modeButtons()[MODE.CONFIDENCE];
  confidence.disabled = !scene.has_confidence;
  if (!scene.has_confidence) confidence.title = "This scene has no confidence";
  modeButtons()[MODE.ORIGIN].hidden = !scene.has_origin;
  element("min-confidence").hidden = !scene.has_confidence;
  element("controls").classList.toggle("wide", scene.has_origin);
  const originColors = /** @type {string[]} */ (COLORMAPS[MODE.ORIGIN]);
  const originLabels = /** @type {HTMLElement[]} */ ([...element("origins").children]);
  originLabels.forEach((label, i) => { label.style.setProperty("--swatch", originColors[i + 1]); });
  element("show-trails").hidden = element("trail-length").hidden = !scene.trails;
  input("length").max = String(Math.max(numFrames - 1, 1));
  input("length").value = String(Math.min(Math.ceil(numFrames / 3), 12));
  for (const id of ["size", "edges", "confidence", "length"]) initSlider(input(id));
  for (const id of ["cameras", "camera-view", "trails"]) input(id).onchange = () => { state.dirty = true; };
  element("reset").onclick = resetView;
  window.onresize = () => { state.dirty = true; };
  window.onkeydown = onKeyDown;
}

/** Fills the details panel. */
function initDetails() {
  for (const [name, value] of scene.details) {
    for (const [tag, text] of [["dt", name], ["dd", value]]) {
      element("about").append(Object.assign(document.createElement(tag), { textContent: text }));
    }
  }
  element("summary").textContent = scene.details[0][1];
}

/** Connects the playback bar. */
function initPlayback() {
  input("time").max = String(Math.max(numFrames - 1, 1));
  const play = /** @type {HTMLButtonElement} */ (element("play"));
  input("time").disabled = play.disabled = numFrames === 1;
  input("fps").value = String(Math.round(Math.min(Math.max(scene.fps, 1), 60)));
  input("time").oninput = () => { setPlaying(false); showFrame(Number(input("time").value)); };
  play.onclick = () => setPlaying(!state.playing);
}

/**
 * Shows a slider's value beside its label and redraws on every change.
 * @param {HTMLInputElement} slider
 */
function initSlider(slider) {
  const update = () => {
    const output = /** @type {HTMLOutputElement} */ (slider.parentElement?.querySelector("output"));
    output.textContent = slider.id === "edges" && slider.value === "0" ? "off" : slider.value;
    state.dirty = true;
  };
  slider.oninput = update;
  update();
}

/**
 * Keyboard shortcuts: space, arrow keys, 1 to 5, T and R.
 * @param {KeyboardEvent} event
 */
function onKeyDown(event) {
  const isTyping = event.target instanceof Element && event.target.id === "fps";
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
  if (event.key === " ") setPlaying(!state.playing);
  else if (step) { setPlaying(false); showFrame((state.frame + step + numFrames) % numFrames); }
  else if ("12345".includes(event.key)) setMode(Number(event.key) - 1);
  else if (event.key === "t") element("trails").click();
  else if (event.key === "r") resetView();
  else return;
  event.preventDefault();
}
