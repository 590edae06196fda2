// The scene description of the page and the state that all scripts of the viewer share. The scripts are concatenated
// into one page in the order of SCRIPTS in page.py and share one global scope.

/**
 * The description of a scene, see `describe_scene` in page.py.
 * @typedef {object} SceneDescription
 * @property {string} title
 * @property {[string, string][]} details - Rows of the details panel: name and value.
 * @property {number} num_frames
 * @property {number} height - Rows of the transferred frames.
 * @property {number} width - Columns of the transferred frames.
 * @property {number} fps
 * @property {[number, number, number, number, number]} intrinsics - fx, fy, cx, cy and skew, in pixels.
 * @property {number[][]} camera_to_world - Per frame, the first three rows of the pose.
 * @property {boolean} has_confidence
 * @property {boolean} has_origin
 * @property {Vector3} pivot - Initial orbit center, world coordinates.
 * @property {number} typical_depth - Median depth.
 * @property {[number, number]} depth_range - Depths of the two ends of the colormap.
 * @property {number} motion_range - Motion per frame at the upper end of the colormap.
 * @property {Trails | null} trails
 * @property {boolean} embedded - Whether the frames are elements of the page instead of served.
 */

/**
 * Parameters of the motion trails, see `describe_trails` in trails.py.
 * @typedef {object} Trails
 * @property {number} count
 * @property {Vector3} low - Minimum of x, y and z.
 * @property {Vector3} step - Quantization step of x, y and z.
 */

/**
 * A frame on the GPU.
 * @typedef {object} Frame
 * @property {[number, number]} scale - log(depth) of code 1, and the step of log(depth) per code.
 * @property {WebGLTexture} depth - Depth codes; 0 where there is no depth.
 * @property {WebGLTexture} origin
 * @property {WebGLTexture} confidence
 * @property {WebGLTexture} color
 */

/** @typedef {[number, number, number]} Vector3 */
/** @typedef {number[]} Matrix4 - 16 numbers, column-major. */

/** Color modes, in the order of the buttons. */
const MODE = { RGB: 0, DEPTH: 1, MOTION: 2, CONFIDENCE: 3, ORIGIN: 4 };

/** Colormap stops per color mode; RGB has none. @type {(string[] | null)[]} */
const COLORMAPS = [
  null,
  ["#140e36", "#2f1163", "#51127c", "#6e1e81", "#8c2981", "#ab337c", "#ca3e72", "#e75263", "#f7705c", "#fd9467", "#feb77e", "#fdda9c", "#fcfdbf"],
  ["#23243f", "#360961", "#57106e", "#751b6e", "#932667", "#b1325a", "#cc4248", "#e45a31", "#f37819", "#fb9906", "#fbbe23", "#f3e35a", "#fcffa4"],
  ["#440154", "#481f70", "#443983", "#3b528b", "#31688e", "#287c8e", "#21918c", "#20a486", "#35b779", "#5ec962", "#90d743", "#c8e020", "#fde725"],
  ["#000000", "#52b788", "#5b8def", "#ff9f40"], // no point, photograph, model, filled
];

/**
 * The element with this id.
 * @param {string} id
 * @returns {HTMLElement}
 */
function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * The input element with this id.
 * @param {string} id
 * @returns {HTMLInputElement}
 */
function input(id) {
  return /** @type {HTMLInputElement} */ (document.getElementById(id));
}

/**
 * The buttons of the color modes, in their order.
 * @returns {HTMLButtonElement[]}
 */
function modeButtons() {
  return /** @type {HTMLButtonElement[]} */ ([...element("modes").children]);
}

/** @type {SceneDescription} */
const scene = JSON.parse(element("scene").textContent ?? "");
const numFrames = scene.num_frames;

/** Loaded frames; null where a frame is not loaded yet. @type {(Frame | null)[]} */
const loadedFrames = new Array(numFrames).fill(null);

/** Camera-to-world poses, one per frame. @type {Matrix4[]} */
const poses = scene.camera_to_world.map((p) => [p[0], p[4], p[8], 0, p[1], p[5], p[9], 0, p[2], p[6], p[10], 0, p[3], p[7], p[11], 1]);

const state = {
  frame: 0,
  mode: MODE.RGB,
  playing: false,
  /** Whether the user started or stopped playback; it starts by itself otherwise. */
  playbackTouched: false,
  /** Whether the canvas must be redrawn. */
  dirty: true,
  /** Whether points were drawn at least once. */
  firstDrawn: false,
  numLoaded: 0,
  numTrailSegments: 0,
};
