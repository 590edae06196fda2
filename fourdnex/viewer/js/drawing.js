// Drawing: points, trails and cameras of the current frame, and the animation loop.

/** Draws the current frame. */
function draw() {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  gl.viewport(0, 0, width, height);
  gl.clearColor(0.051, 0.063, 0.078, 1);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.DEPTH_TEST);
  const { matrix, focal } = viewProjection();
  const frame = loadedFrames[state.frame];
  if (frame) drawPoints(frame, matrix, focal);
  if (state.numTrailSegments && input("trails").checked) drawTrails(matrix);
  if (input("cameras").checked && !isFrameCamera()) drawCameras(matrix);
}

/**
 * Draws one point per pixel of the current frame.
 * @param {Frame} frame
 * @param {Matrix4} matrix - World to clip.
 * @param {number} focal - Focal length in canvas pixels.
 */
function drawPoints(frame, matrix, focal) {
  const t = state.frame;
  const { handle, uniforms } = pointProgram;
  const [fx, fy, cx, cy, skew] = scene.intrinsics;
  const previous = neighbor(t - 1);
  const next = neighbor(t + 1);
  gl.useProgram(handle);
  gl.bindVertexArray(pointArray);
  const textures = {
    uDepth: frame.depth,
    uPreviousDepth: previous.depth,
    uNextDepth: next.depth,
    uColor: frame.color,
    uConfidence: frame.confidence,
    uOrigin: frame.origin,
    uColormap: colormapTextures[state.mode],
  };
  Object.entries(textures).forEach(([name, texture], unit) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.uniform1i(uniforms[name], unit);
  });
  gl.activeTexture(gl.TEXTURE8); // the unit that createTexture binds frames to while they load
  gl.uniform2fv(uniforms.uScale, frame.scale);
  gl.uniform2fv(uniforms.uPreviousScale, previous.scale);
  gl.uniform2fv(uniforms.uNextScale, next.scale);
  gl.uniformMatrix4fv(uniforms.uToPrevious, false, previous.transform);
  gl.uniformMatrix4fv(uniforms.uToNext, false, next.transform);
  gl.uniform1i(uniforms.uHasPrevious, Number(previous.isLoaded));
  gl.uniform1i(uniforms.uHasNext, Number(next.isLoaded));
  gl.uniformMatrix4fv(uniforms.uPose, false, poses[t]);
  gl.uniformMatrix4fv(uniforms.uView, false, matrix);
  gl.uniform4f(uniforms.uPinhole, fx, fy, cx, cy);
  gl.uniform1f(uniforms.uSkew, skew);
  gl.uniform1f(uniforms.uSize, Number(input("size").value));
  gl.uniform1f(uniforms.uFocal, focal);
  gl.uniform1f(uniforms.uEdgeThreshold, edgeThreshold());
  gl.uniform1f(uniforms.uMinConfidence, Number(input("confidence").value));
  gl.uniform1i(uniforms.uMode, state.mode);
  gl.uniform2fv(uniforms.uDepthRange, scene.depth_range);
  gl.uniform1f(uniforms.uMotionRange, scene.motion_range);
  gl.drawArrays(gl.POINTS, 0, scene.width * scene.height);
  if (!state.firstDrawn) {
    state.firstDrawn = true;
    gl.finish();
    performance.mark("first-points");
  }
}

/**
 * @typedef {object} Neighbor
 * @property {boolean} isLoaded
 * @property {WebGLTexture} depth
 * @property {[number, number]} scale - See Frame.
 * @property {Matrix4} transform - From the current frame's camera to the neighbor's.
 */

/**
 * A frame next to the current one, for the motion colors.
 * @param {number} t
 * @returns {Neighbor}
 */
function neighbor(t) {
  const frame = loadedFrames[t];
  const pose = poses[state.frame];
  if (!frame) return { isLoaded: false, depth: emptyDepth, scale: [0, 0], transform: pose };
  return { isLoaded: true, depth: frame.depth, scale: frame.scale, transform: multiply(invert(poses[t]), pose) };
}

/**
 * Draws the trails of moving points up to the current frame.
 * @param {Matrix4} matrix - World to clip.
 */
function drawTrails(matrix) {
  const { handle, uniforms } = trailProgram;
  gl.useProgram(handle);
  gl.bindVertexArray(trailArray);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  gl.uniformMatrix4fv(uniforms.uView, false, matrix);
  gl.uniform1f(uniforms.uFrame, state.frame);
  gl.uniform1f(uniforms.uLength, Number(input("length").value));
  gl.drawArrays(gl.LINES, 0, 2 * state.numTrailSegments);
  gl.disable(gl.BLEND);
}

/**
 * Draws camera frusta and the camera path.
 * @param {Matrix4} matrix - World to clip.
 */
function drawCameras(matrix) {
  const { handle, uniforms } = lineProgram;
  const stride = Math.max(1, Math.ceil(numFrames / 24));
  const others = poses.flatMap((_, t) => (t % stride === 0 && t !== state.frame ? frustum(t, 0.035 * scene.typical_depth) : []));
  gl.useProgram(handle);
  gl.bindVertexArray(lineArray);
  gl.bindBuffer(gl.ARRAY_BUFFER, lineBuffer);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
  gl.uniformMatrix4fv(uniforms.uView, false, matrix);
  drawLines(gl.LINES, others, [0.75, 0.8, 0.88, 0.3]);
  drawLines(gl.LINE_STRIP, poses.flatMap((pose) => column(pose, 3)), [0.35, 0.85, 0.85, 0.95]);
  drawLines(gl.LINES, frustum(state.frame, 0.07 * scene.typical_depth), [1, 0.63, 0.28, 1]);
  gl.disable(gl.BLEND);
}

/**
 * Draws lines of one color with the bound line program and buffer.
 * @param {number} primitive
 * @param {number[]} positions - Three coordinates per vertex.
 * @param {[number, number, number, number]} color - RGBA, each 0 to 1.
 */
function drawLines(primitive, positions, color) {
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(positions), gl.DYNAMIC_DRAW);
  gl.uniform4fv(lineProgram.uniforms.uColor, color);
  gl.drawArrays(primitive, 0, positions.length / 3);
}

/**
 * The edges of a camera frustum: eight line segments.
 * @param {number} t
 * @param {number} depth - Distance of the image plane.
 * @returns {number[]}
 */
function frustum(t, depth) {
  const [fx, fy, cx, cy] = scene.intrinsics;
  const eye = column(poses[t], 3);
  /** @param {number} u @param {number} v */
  const corner = (u, v) => add(eye, rotate(poses[t], [((u - cx) / fx) * depth, ((v - cy) / fy) * depth, depth]));
  const [a, b, c, d] = [corner(0, 0), corner(scene.width, 0), corner(scene.width, scene.height), corner(0, scene.height)];
  return [eye, a, eye, b, eye, c, eye, d, a, b, b, c, c, d, d, a].flat();
}

/** Time of the next frame during playback, in milliseconds. */
let nextFrameTime = 0;

/**
 * One iteration of the animation loop: advances playback and redraws when necessary.
 * @param {number} now - Milliseconds.
 */
function tick(now) {
  if (state.playing && now >= nextFrameTime) {
    const next = (state.frame + 1) % numFrames;
    if (loadedFrames[next]) showFrame(next); // playback waits for frames that are not loaded yet
    nextFrameTime = Math.max(nextFrameTime + 1000 / Number(input("fps").value || 1), now - 100);
  }
  if (state.dirty) {
    state.dirty = false;
    draw();
  }
  requestAnimationFrame(tick);
}
