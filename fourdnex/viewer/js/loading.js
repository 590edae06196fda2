// Loading: the first frame, then the other frames, two at a time, then the trails.

/**
 * The bytes of a block, from the server or from an element of the page.
 * @param {string} path - Path on the server.
 * @param {string} id - Id of the element in a page with embedded frames.
 * @param {string} nextId - Id of the element after it.
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function readBlock(path, id, nextId) {
  if (!scene.embedded) {
    const response = await fetch(path);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  }
  // An element is complete once the parser has reached the next one.
  while (document.readyState === "loading" && !document.getElementById(nextId)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const block = document.getElementById(id);
  if (!block) throw new Error(`${path}: the file is truncated`);
  const text = atob(block.textContent ?? "");
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  block.remove();
  return bytes;
}

/**
 * Decompresses a zlib stream.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Decodes 16-bit codes from a plane of low bytes and one of high bytes of zigzag-encoded differences along rows.
 * @param {Uint8Array} planes
 * @param {number} width
 * @param {number} height
 * @returns {Uint16Array}
 */
function decodeCodes(planes, width, height) {
  const size = width * height;
  const codes = new Uint16Array(size);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0, value = 0; x < width; x++, i++) {
      const zigzag = planes[i] | (planes[size + i] << 8);
      codes[i] = value = (value + ((zigzag >> 1) ^ -(zigzag & 1))) & 65535;
    }
  }
  return codes;
}

/**
 * Loads one frame to the GPU. The layout of a block is documented at `frame_block` in frames.py.
 * @param {number} t
 */
async function loadFrame(t) {
  const block = await readBlock(`frames/${t}`, `frame-${t}`, `frame-${t + 1}`);
  const header = new DataView(block.buffer, block.byteOffset, 20);
  const ends = [20];
  for (let i = 0; i < 3; i++) ends.push(ends[i] + header.getUint32(4 * i, true));
  const [depth, confidence, image] = [0, 1, 2].map((i) => block.subarray(ends[i], ends[i + 1]));
  const origin = block.subarray(ends[3]);
  const [depthPlanes, confidenceLevels, originLevels, bitmap] = await Promise.all([
    inflate(depth),
    confidence.length ? inflate(confidence) : null,
    origin.length ? inflate(origin) : null,
    createImageBitmap(new Blob([image]), { colorSpaceConversion: "none", premultiplyAlpha: "none" }),
  ]);
  const { width, height } = scene;
  loadedFrames[t] = {
    scale: [header.getFloat32(12, true), header.getFloat32(16, true)],
    depth: createTexture(gl.R16UI, gl.RED_INTEGER, width, height, decodeCodes(depthPlanes, width, height)),
    origin: originLevels ? createTexture(gl.R8, gl.RED, width, height, originLevels) : fullConfidence,
    confidence: confidenceLevels ? createTexture(gl.R8, gl.RED, width, height, confidenceLevels) : fullConfidence,
    color: createTexture(gl.RGB8, gl.RGB, width, height, bitmap),
  };
  bitmap.close();
  state.numLoaded++;
  element("loaded").style.width = `${(100 * state.numLoaded) / numFrames}%`;
  element("loaded").classList.toggle("complete", state.numLoaded === numFrames);
  if (Math.abs(t - state.frame) <= 1) state.dirty = true;
}

/**
 * Loads the motion trails to the GPU as line segments. The layout is documented at `trails_block` in trails.py.
 * @param {Trails} trails
 */
async function loadTrails({ count, low, step }) {
  const bytes = await inflate(await readBlock("trails", "trail-data", "frame-0"));
  const codes = decodeCodes(bytes.subarray(5 * count), numFrames, 3 * count);
  /** @param {number} n */
  const firstFrame = (n) => bytes[2 * n] | (bytes[2 * n + 1] << 8);
  // Per vertex: position, color, its frame, and the later frame of its segment.
  const data = new Float32Array(2 * 8 * (numFrames - 1) * count);
  let length = 0;
  for (let n = 0; n < count; n++) {
    for (let t = firstFrame(n) + 1; t < numFrames; t++) {
      for (const frame of [t - 1, t]) {
        for (let i = 0; i < 3; i++) data[length + i] = low[i] + step[i] * codes[(3 * n + i) * numFrames + frame];
        for (let i = 0; i < 3; i++) data[length + 3 + i] = bytes[2 * count + 3 * n + i] / 255;
        data[length + 6] = frame;
        data[length + 7] = t;
        length += 8;
      }
    }
  }
  gl.bindVertexArray(trailArray);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, data.subarray(0, length), gl.STATIC_DRAW);
  for (const [location, size, offset] of [[0, 3, 0], [1, 4, 12], [2, 1, 28]]) {
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, gl.FLOAT, false, 32, offset);
  }
  gl.bindVertexArray(null);
  state.numTrailSegments = length / 16;
  state.dirty = true;
}

/** Loads all frames and trails, then starts playback unless the user has used its controls. */
async function loadAll() {
  element("message").textContent = "Loading…";
  try {
    await loadFrame(0);
    element("message").textContent = "";
    let next = 1;
    await Promise.all([0, 1].map(async () => { while (next < numFrames) await loadFrame(next++); }));
    if (scene.trails) await loadTrails(scene.trails);
    // Not earlier: with software rendering, drawing would leave no processor time for loading.
    if (!state.playbackTouched) setPlaying(true);
    performance.mark("all-frames");
  } catch (error) {
    element("message").textContent = `Loading failed: ${error instanceof Error ? error.message : error}`;
    throw error;
  }
}
