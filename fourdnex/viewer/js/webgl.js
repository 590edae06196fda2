// The WebGL context, its programs and the textures that do not depend on a frame.

/**
 * @typedef {object} Program
 * @property {WebGLProgram} handle
 * @property {Record<string, WebGLUniformLocation | null>} uniforms - Locations by name.
 */

const canvas = /** @type {HTMLCanvasElement} */ (element("canvas"));
const gl = createContext();
const pointProgram = createProgram(POINT_VERTEX, POINT_FRAGMENT);
const lineProgram = createProgram(LINE_VERTEX, LINE_FRAGMENT);
const trailProgram = createProgram(TRAIL_VERTEX, TRAIL_FRAGMENT);
const emptyDepth = createTexture(gl.R16UI, gl.RED_INTEGER, 1, 1, new Uint16Array(1));
const fullConfidence = createTexture(gl.R8, gl.RED, scene.width, scene.height, new Uint8Array(scene.width * scene.height).fill(255));
const colormapTextures = COLORMAPS.map(createColormap);
const pointArray = gl.createVertexArray(); // without attributes: the vertex shader reads textures
const lineArray = gl.createVertexArray();
const lineBuffer = gl.createBuffer();
const trailArray = gl.createVertexArray();

/** @returns {WebGL2RenderingContext} */
function createContext() {
  const context = canvas.getContext("webgl2", { antialias: true, alpha: false, powerPreference: "high-performance" });
  if (!context) {
    element("message").textContent = "The viewer requires WebGL 2, which this browser does not support.";
    throw new Error("WebGL 2 is not supported");
  }
  return context;
}

/**
 * Compiles and links a program and finds its uniforms.
 * @param {string} vertex
 * @param {string} fragment
 * @returns {Program}
 */
function createProgram(vertex, fragment) {
  const handle = gl.createProgram();
  const shaders = [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]].map(([type, source]) => {
    const shader = /** @type {WebGLShader} */ (gl.createShader(Number(type)));
    gl.shaderSource(shader, String(source));
    gl.compileShader(shader);
    gl.attachShader(handle, shader);
    return shader;
  });
  gl.linkProgram(handle);
  if (!gl.getProgramParameter(handle, gl.LINK_STATUS)) {
    throw new Error([gl.getProgramInfoLog(handle), ...shaders.map((shader) => gl.getShaderInfoLog(shader))].join("\n"));
  }
  /** @type {Record<string, WebGLUniformLocation | null>} */
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(handle, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = /** @type {WebGLActiveInfo} */ (gl.getActiveUniform(handle, i));
    uniforms[name] = gl.getUniformLocation(handle, name);
  }
  return { handle, uniforms };
}

/**
 * A texture with nearest sampling.
 * @param {number} internalFormat
 * @param {number} format
 * @param {number} width
 * @param {number} height
 * @param {Uint8Array | Uint16Array | ImageBitmap} data
 * @returns {WebGLTexture}
 */
function createTexture(internalFormat, format, width, height, data) {
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const type = internalFormat === gl.R16UI ? gl.UNSIGNED_SHORT : gl.UNSIGNED_BYTE;
  if (data instanceof ImageBitmap) gl.texImage2D(gl.TEXTURE_2D, 0, internalFormat, format, type, data);
  else gl.texImage2D(gl.TEXTURE_2D, 0, internalFormat, width, height, 0, format, type, data);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
  return texture;
}

/**
 * A colormap of 256 entries, interpolated linearly between its stops.
 * @param {string[] | null} stops - Colors as #rrggbb; null gives black.
 * @returns {WebGLTexture}
 */
function createColormap(stops) {
  const data = new Uint8Array(256 * 3);
  for (let i = 0; stops && i < 256; i++) {
    const position = (i / 255) * (stops.length - 1);
    const j = Math.min(Math.floor(position), stops.length - 2);
    for (let c = 0; c < 3; c++) {
      const [low, high] = [stops[j], stops[j + 1]].map((stop) => parseInt(stop.slice(1 + 2 * c, 3 + 2 * c), 16));
      data[3 * i + c] = Math.round(low * (1 - (position - j)) + high * (position - j));
    }
  }
  return createTexture(gl.RGB8, gl.RGB, 256, 1, data);
}
