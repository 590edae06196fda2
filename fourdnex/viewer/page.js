// Matrices are column-major arrays of 16; cameras have OpenCV axes (x right, y down, z forward) until the projection.
const scene = JSON.parse(document.getElementById("scene").textContent);
const $ = (id) => document.getElementById(id);
const count = scene.num_frames;
const PALETTES = [null,
  ["#140e36", "#2f1163", "#51127c", "#6e1e81", "#8c2981", "#ab337c", "#ca3e72", "#e75263", "#f7705c", "#fd9467", "#feb77e", "#fdda9c", "#fcfdbf"],
  ["#23243f", "#360961", "#57106e", "#751b6e", "#932667", "#b1325a", "#cc4248", "#e45a31", "#f37819", "#fb9906", "#fbbe23", "#f3e35a", "#fcffa4"],
  ["#440154", "#481f70", "#443983", "#3b528b", "#31688e", "#287c8e", "#21918c", "#20a486", "#35b779", "#5ec962", "#90d743", "#c8e020", "#fde725"],
  ["#000000", "#52b788", "#5b8def", "#ff9f40"],  // nowhere, photograph, model, filled
];
const state = { frame: 0, mode: 0, playing: false, dirty: true, loaded: 0, bytes: 0, segments: 0 };
const frames = new Array(count).fill(null);
const poses = scene.camera_to_world.map((p) => [p[0], p[4], p[8], 0, p[1], p[5], p[9], 0, p[2], p[6], p[10], 0, p[3], p[7], p[11], 1]);

// --- vectors and matrices
const add = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const column = (m, i) => [m[4 * i], m[4 * i + 1], m[4 * i + 2]];
const turn = (m, v) => [0, 1, 2].map((r) => m[r] * v[0] + m[4 + r] * v[1] + m[8 + r] * v[2]);
function multiply(a, b) {
  const c = new Array(16).fill(0);
  for (let j = 0; j < 4; j++) for (let i = 0; i < 4; i++) for (let k = 0; k < 4; k++) c[4 * j + i] += a[4 * k + i] * b[4 * j + k];
  return c;
}
function invert(m) {  // of a rigid transform
  const t = column(m, 3), dot = (i) => -(m[4 * i] * t[0] + m[4 * i + 1] * t[1] + m[4 * i + 2] * t[2]);
  return [m[0], m[4], m[8], 0, m[1], m[5], m[9], 0, m[2], m[6], m[10], 0, dot(0), dot(1), dot(2), 1];
}

// --- the graphics card
const canvas = $("canvas");
const gl = canvas.getContext("webgl2", { antialias: true, alpha: false, powerPreference: "high-performance" });
if (!gl) {
  $("message").textContent = "This browser offers no WebGL 2, which the viewer needs.";
  throw new Error("no WebGL 2");
}
function program(vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS))
    throw new Error(gl.getProgramInfoLog(made) + gl.getAttachedShaders(made).map((s) => gl.getShaderInfoLog(s)).join("\n"));
  const at = {};
  for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = gl.getActiveUniform(made, i);
    at[name] = gl.getUniformLocation(made, name);
  }
  return { made, at };
}
function texture(internal, format, width, height, data) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const type = internal === gl.R16UI ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE;
  if (data instanceof ImageBitmap) gl.texImage2D(gl.TEXTURE_2D, 0, internal, format, type, data);
  else gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, format, type, data);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
  return made;
}
const points = program(POINT_VERTEX, POINT_FRAGMENT), lines = program(LINE_VERTEX, LINE_FRAGMENT), trails = program(TRAIL_VERTEX, TRAIL_FRAGMENT);
const noDepth = texture(gl.R16UI, gl.RED_INTEGER, 1, 1, new Uint16Array(1));
const sure = texture(gl.R8, gl.RED, scene.width, scene.height, new Uint8Array(scene.width * scene.height).fill(255));
const maps = PALETTES.map((stops) => {
  const data = new Uint8Array(256 * 3);
  if (stops) for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1), j = Math.min(Math.floor(place), stops.length - 2), part = place - j;
    for (let c = 0; c < 3; c++) {
      const value = (k) => parseInt(stops[k].slice(1 + 2 * c, 3 + 2 * c), 16);
      data[3 * i + c] = Math.round(value(j) * (1 - part) + value(j + 1) * part);
    }
  }
  return texture(gl.RGB8, gl.RGB, 256, 1, data);
});
const empty = gl.createVertexArray(), shape = gl.createVertexArray(), corners = gl.createBuffer(), ways = gl.createVertexArray();

// --- the frames: first the first one, then the others, a few at a time; trails last
async function bytesOf(path, name, next) {
  if (!scene.embedded) {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  }
  // An element is whole when the parser has gone on to the next one.
  while (document.readyState === "loading" && !$(next)) await new Promise((go) => setTimeout(go, 5));
  const element = $(name);
  if (!element) throw new Error(`${path}: the file is cut short`);
  const text = atob(element.textContent), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  element.remove();
  return bytes;
}
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
function unpack(planes, width, height) {  // differences along rows, low bytes before high ones
  const size = width * height, codes = new Uint16Array(size);
  for (let y = 0, i = 0; y < height; y++) for (let x = 0, value = 0; x < width; x++, i++) {
    const folded = planes[i] | (planes[size + i] << 8);
    codes[i] = value = (value + ((folded >> 1) ^ -(folded & 1))) & 65535;
  }
  return codes;
}
async function load(t) {
  const block = await bytesOf(`frames/${t}`, `frame-${t}`, `frame-${t + 1}`), head = new DataView(block.buffer, block.byteOffset, 20);
  const ends = [20];
  for (let i = 0; i < 3; i++) ends.push(ends[i] + head.getUint32(4 * i, true));
  const [packed, confidence, image] = [0, 1, 2].map((i) => block.subarray(ends[i], ends[i + 1]));
  const { width, height } = scene, origin = block.subarray(ends[3]);
  const [planes, levels, origins, bitmap] = await Promise.all([inflate(packed),
    confidence.length ? inflate(confidence) : null, origin.length ? inflate(origin) : null, createImageBitmap(new Blob([image]), { colorSpaceConversion: "none", premultiplyAlpha: "none" })]);
  frames[t] = {
    scale: [head.getFloat32(12, true), head.getFloat32(16, true)],
    depth: texture(gl.R16UI, gl.RED_INTEGER, width, height, unpack(planes, width, height)),
    origin: origins ? texture(gl.R8, gl.RED, width, height, origins) : sure,
    confidence: levels ? texture(gl.R8, gl.RED, width, height, levels) : sure,
    color: texture(gl.RGB8, gl.RGB, width, height, bitmap),
  };
  bitmap.close();
  state.loaded++;
  state.bytes += block.length;
  $("loaded").style.width = `${(100 * state.loaded) / count}%`;
  $("loaded").classList.toggle("whole", state.loaded === count);
  if (Math.abs(t - state.frame) <= 1) state.dirty = true;
}
async function loadTrails() {
  const { count: number, low, step } = scene.trails, bytes = await inflate(await bytesOf("trails", "trail-data", "frame-0"));
  const codes = unpack(bytes.subarray(5 * number), count, 3 * number), of = 8 * (count - 1);  // floats a segment's end: 8
  const first = (n) => bytes[2 * n] | (bytes[2 * n + 1] << 8);
  const data = new Float32Array(2 * of * number);
  let at = 0;
  for (let n = 0; n < number; n++) for (let t = first(n) + 1; t < count; t++) for (const end of [t - 1, t]) {
    for (let i = 0; i < 3; i++) data[at + i] = low[i] + step[i] * codes[(3 * n + i) * count + end];
    for (let i = 0; i < 3; i++) data[at + 3 + i] = bytes[2 * number + 3 * n + i] / 255;
    data[at + 6] = end;
    data[at + 7] = t;
    at += 8;
  }
  gl.bindVertexArray(ways);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, data.subarray(0, at), gl.STATIC_DRAW);
  for (const [place, size, offset] of [[0, 3, 0], [1, 4, 12], [2, 1, 28]]) {
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, gl.FLOAT, false, 32, offset);
  }
  gl.bindVertexArray(null);
  state.segments = at / 16;
  state.dirty = true;
}
async function loadAll() {
  $("message").textContent = "loading …";
  try {
    await load(0);
    $("message").textContent = "";
    let next = 1;
    await Promise.all([0, 1].map(async () => { while (next < count) await load(next++); }));
    if (scene.trails) await loadTrails();
    if (!state.touched) setPlaying(true);  // not before: drawing in software would leave nothing for loading
    performance.mark("all-frames");
  } catch (error) {
    $("message").textContent = `Loading stopped: ${error.message}`;
    throw error;
  }
}

// --- where one looks from: a pose that turns about a point
const view = {};
function firstView() {
  const pose = poses[0], d = scene.typical_depth;
  view.base = pose;
  view.pivot = scene.pivot;
  const eye = add(column(pose, 3), turn(pose, [0.25 * d, -0.2 * d, -0.3 * d]));
  const away = turn(invert(pose), add(view.pivot, eye, -1));
  view.distance = Math.hypot(...away);
  view.yaw = Math.atan2(away[0], away[2]);
  view.pitch = Math.asin(-away[1] / view.distance);
  $("through").checked = false;
  state.dirty = true;
}
function viewPose() {
  const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
  const local = [cy, 0, -sy, 0, sy * sp, cp, cy * sp, 0, sy * cp, -sp, cy * cp, 0, 0, 0, 0, 1];
  const base = [...view.base.slice(0, 12), 0, 0, 0, 1], pose = multiply(base, local);
  [pose[12], pose[13], pose[14]] = add(view.pivot, column(pose, 2), -view.distance);
  return pose;
}
function camera() {
  const [fx, fy, cx, cy] = scene.intrinsics, through = $("through").checked;
  const { width, height } = canvas, d = scene.typical_depth, near = 0.005 * d, far = 500 * d;
  const bar = (height * Math.min(96, 0.3 * canvas.clientHeight)) / Math.max(canvas.clientHeight, 1);  // the time line's
  // Its own image just fits when one looks through a camera; else one sees a little more than it did.
  const zoom = Math.min(width / scene.width, (height - bar) / scene.height) * (through ? 0.97 : 0.9);
  const [x, y] = through ? [cx + 0.5 - scene.width / 2, cy + 0.5 - scene.height / 2] : [0, 0];
  const projection = [(2 * fx * zoom) / width, 0, 0, 0, 0, (-2 * fy * zoom) / height, 0, 0,
    (2 * x * zoom) / width, (bar - 2 * y * zoom) / height, (far + near) / (far - near), 1, 0, 0, (-2 * far * near) / (far - near), 0];
  return { matrix: multiply(projection, invert(through ? poses[state.frame] : viewPose())), focal: fx * zoom };
}

// --- drawing
function draw() {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  gl.viewport(0, 0, width, height);
  gl.clearColor(0.051, 0.063, 0.078, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST);
  const { matrix, focal } = camera();
  if (frames[state.frame]) drawPoints(matrix, focal);
  if (state.segments && $("trails").checked) drawTrails(matrix);
  if ($("cameras").checked && !$("through").checked) drawCameras(matrix);
}
function drawTrails(matrix) {
  gl.useProgram(trails.made);
  gl.bindVertexArray(ways);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  gl.uniformMatrix4fv(trails.at.uView, false, matrix);
  gl.uniform1f(trails.at.uFrame, state.frame);
  gl.uniform1f(trails.at.uLength, Number($("length").value));
  gl.drawArrays(gl.LINES, 0, 2 * state.segments);
  gl.disable(gl.BLEND);
}
function drawPoints(matrix, focal) {
  const t = state.frame, { made, at } = points, [fx, fy, cx, cy, skew] = scene.intrinsics;
  const neighbor = (s) => (frames[s] ? { ...frames[s], has: 1, to: multiply(invert(poses[s]), poses[t]) }
    : { depth: noDepth, scale: [0, 0], has: 0, to: poses[t] });
  const [before, after] = [neighbor(t - 1), neighbor(t + 1)];
  gl.useProgram(made);
  gl.bindVertexArray(empty);
  const { depth, color, confidence, origin, scale } = frames[t];
  Object.entries({ uDepth: depth, uBefore: before.depth, uAfter: after.depth, uColor: color, uConfidence: confidence, uOrigin: origin, uMap: maps[state.mode] })
    .forEach(([name, bound], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, bound);
      gl.uniform1i(at[name], unit);
    });
  gl.activeTexture(gl.TEXTURE8);  // where new frames are bound meanwhile
  gl.uniform2fv(at.uScale, scale);
  gl.uniform2fv(at.uScaleBefore, before.scale);
  gl.uniform2fv(at.uScaleAfter, after.scale);
  gl.uniformMatrix4fv(at.uToBefore, false, before.to);
  gl.uniformMatrix4fv(at.uToAfter, false, after.to);
  gl.uniform1i(at.uHasBefore, before.has);
  gl.uniform1i(at.uHasAfter, after.has);
  gl.uniformMatrix4fv(at.uPose, false, poses[t]);
  gl.uniformMatrix4fv(at.uView, false, matrix);
  gl.uniform4f(at.uPinhole, fx, fy, cx, cy);
  gl.uniform1f(at.uSkew, skew);
  gl.uniform1f(at.uSize, Number($("size").value));
  gl.uniform1f(at.uFocal, focal);
  gl.uniform1f(at.uEdge, edgeStep());
  gl.uniform1f(at.uLeast, Number($("confidence").value));
  gl.uniform1i(at.uMode, state.mode);
  gl.uniform2fv(at.uDepthRange, scene.depth_range);
  gl.uniform1f(at.uMotionRange, scene.motion_range);
  gl.drawArrays(gl.POINTS, 0, scene.width * scene.height);
  if (!state.seen) {
    state.seen = true;
    gl.finish();
    performance.mark("first-points");
  }
}
function drawCameras(matrix) {
  const [fx, fy, cx, cy] = scene.intrinsics, every = Math.max(1, Math.ceil(count / 24));
  const frustum = (t, size) => {
    const corner = (u, v) => add(column(poses[t], 3), turn(poses[t], [((u - cx) / fx) * size, ((v - cy) / fy) * size, size]));
    const [a, b, c, d] = [corner(0, 0), corner(scene.width, 0), corner(scene.width, scene.height), corner(0, scene.height)];
    const eye = column(poses[t], 3);
    return [eye, a, eye, b, eye, c, eye, d, a, b, b, c, c, d, d, a].flat();
  };
  const others = poses.flatMap((_, t) => (t % every === 0 && t !== state.frame ? frustum(t, 0.035 * scene.typical_depth) : []));
  gl.useProgram(lines.made);
  gl.bindVertexArray(shape);
  gl.bindBuffer(gl.ARRAY_BUFFER, corners);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  gl.uniformMatrix4fv(lines.at.uView, false, matrix);
  for (const [places, kind, color] of [[others, gl.LINES, [0.75, 0.8, 0.88, 0.3]],
    [poses.flatMap((pose) => column(pose, 3)), gl.LINE_STRIP, [0.35, 0.85, 0.85, 0.95]],
    [frustum(state.frame, 0.07 * scene.typical_depth), gl.LINES, [1, 0.63, 0.28, 1]]]) {
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(places), gl.DYNAMIC_DRAW);
    gl.uniform4fv(lines.at.uColor, color);
    gl.drawArrays(kind, 0, places.length / 3);
  }
  gl.disable(gl.BLEND);
}
let due = 0;
function tick(now) {
  if (state.playing && now >= due) {
    const next = (state.frame + 1) % count;
    if (frames[next]) show(next);  // else it waits for it
    due = Math.max(due + 1000 / Number($("fps").value || 1), now - 100);
  }
  if (state.dirty) {
    state.dirty = false;
    draw();
  }
  requestAnimationFrame(tick);
}

// --- controls
function edgeStep() {  // from nothing to a step of 2 % of the depth
  const value = Number($("edges").value);
  return value > 0 ? 0.5 * Math.pow(0.04, value) : 0;
}
function show(t) {
  state.frame = t;
  $("time").value = t;
  $("frame").textContent = `${t + 1} / ${count}`;
  state.dirty = true;
}
function setPlaying(on) {
  state.touched = true;
  state.playing = on && count > 1;
  $("icon").setAttribute("d", state.playing ? "M4 3h4v14H4zM12 3h4v14h-4z" : "M5 3l12 7-12 7z");
}
function setMode(mode) {
  if ((mode === 3 && !scene.has_confidence) || (mode === 4 && !scene.has_origin)) return;
  state.mode = mode;
  for (const button of $("modes").children) button.setAttribute("aria-pressed", String(Number(button.dataset.mode) === mode));
  $("legend").hidden = mode === 0 || mode === 4;
  $("origins").hidden = mode !== 4;
  const short = (value) => Number(value.toPrecision(3)).toString();
  const [near, far] = scene.depth_range;
  const texts = [["", ""], [`far ${short(far)}`, `near ${short(near)}`], ["still", `${short(scene.motion_range)} a frame`], ["0", "1"], ["", ""]];
  [$("low").textContent, $("high").textContent] = texts[mode];
  $("ramp").style.background = mode ? `linear-gradient(90deg, ${PALETTES[mode].join(",")})` : "";
  state.dirty = true;
}
function addControls() {
  for (const [name, value] of scene.about) {
    for (const [kind, text] of [["dt", name], ["dd", value]]) $("about").append(Object.assign(document.createElement(kind), { textContent: text }));
  }
  $("summary").textContent = scene.about[0][1];
  $("time").max = Math.max(count - 1, 1);
  $("time").disabled = $("play").disabled = count === 1;
  $("fps").value = Math.round(Math.min(Math.max(scene.fps, 1), 60));
  $("least").hidden = !scene.has_confidence;
  for (const button of $("modes").children) button.onclick = () => setMode(Number(button.dataset.mode));
  const [unsure, origin] = [3, 4].map((mode) => document.querySelector(`[data-mode="${mode}"]`));
  if (!scene.has_confidence) Object.assign(unsure, { disabled: true, title: "this scene has none" });
  origin.hidden = !scene.has_origin;
  $("controls").classList.toggle("wide", scene.has_origin);
  [...$("origins").children].forEach((span, i) => span.style.setProperty("--own", PALETTES[4][i + 1]));
  $("trailed").hidden = $("long").hidden = !scene.trails;
  $("length").max = Math.max(count - 1, 1);
  $("length").value = Math.min(Math.ceil(count / 3), 12);
  for (const id of ["size", "edges", "confidence", "length"]) {
    const tell = () => {
      $(id).parentElement.querySelector("output").textContent = id === "edges" && $(id).value === "0" ? "off" : $(id).value;
      state.dirty = true;
    };
    $(id).oninput = tell;
    tell();
  }
  for (const id of ["cameras", "through", "trails"]) $(id).onchange = () => { state.dirty = true; };
  $("time").oninput = () => { setPlaying(false); show(Number($("time").value)); };
  $("play").onclick = () => setPlaying(!state.playing);
  $("reset").onclick = firstView;
  window.onresize = () => { state.dirty = true; };
  window.onkeydown = (event) => {
    if (event.target.id === "fps" || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === " ") setPlaying(!state.playing);
    else if (step) { setPlaying(false); show((state.frame + step + count) % count); }
    else if ("12345".includes(event.key)) setMode(Number(event.key) - 1);
    else if (event.key === "t") $("trails").click();
    else if (event.key === "r") firstView();
    else return;
    event.preventDefault();
  };
}
function addPointer() {
  const held = new Map();
  const spread = () => { const [a, b] = [...held.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  const orbit = (dx, dy) => {
    view.yaw += 0.006 * dx;
    view.pitch = Math.min(Math.max(view.pitch - 0.006 * dy, -1.55), 1.55);
  };
  const pan = (dx, dy) => {
    const pose = viewPose(), unit = view.distance / (camera().focal / (canvas.width / canvas.clientWidth));
    view.pivot = add(add(view.pivot, column(pose, 0), -dx * unit), column(pose, 1), -dy * unit);
  };
  const moved = () => { $("through").checked = false; $("hint").classList.add("gone"); state.dirty = true; };
  const zoom = (factor) => { view.distance = Math.min(Math.max(view.distance * factor, 0.02 * scene.typical_depth), 50 * scene.typical_depth); moved(); };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
  };
  canvas.onpointermove = (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y], two = held.size === 2, apart = two ? spread() : 0;
    Object.assign(last, { x: event.clientX, y: event.clientY });
    if (two) {
      pan(dx / 2, dy / 2);
      zoom(apart / Math.max(spread(), 1));
    } else if (event.buttons & 6 || event.shiftKey) pan(dx, dy);
    else orbit(dx, dy);
    moved();
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => held.delete(event.pointerId);
  canvas.oncontextmenu = (event) => event.preventDefault();
  canvas.ondblclick = firstView;
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(0.0012 * Math.max(-300, Math.min(event.deltaY, 300)))); }, { passive: false });
}
canvas.addEventListener("webglcontextlost", () => { $("message").textContent = "The graphics card dropped the scene; load the page again."; });
addControls();
addPointer();
firstView();
setMode(0);
show(0);
requestAnimationFrame(tick);
loadAll();
