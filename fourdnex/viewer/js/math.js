// Vectors and matrices. Matrices are column-major arrays of 16. Cameras have OpenCV axes (x right, y down, z forward)
// up to the projection.

/**
 * a + s * b
 * @param {Vector3} a
 * @param {Vector3} b
 * @param {number} s
 * @returns {Vector3}
 */
function add(a, b, s = 1) {
  return [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
}

/**
 * The first three entries of a column.
 * @param {Matrix4} m
 * @param {number} i
 * @returns {Vector3}
 */
function column(m, i) {
  return [m[4 * i], m[4 * i + 1], m[4 * i + 2]];
}

/**
 * Rotates a vector by the upper left 3 x 3 block.
 * @param {Matrix4} m
 * @param {Vector3} v
 * @returns {Vector3}
 */
function rotate(m, v) {
  /** @param {number} row */
  const dot = (row) => m[row] * v[0] + m[4 + row] * v[1] + m[8 + row] * v[2];
  return [dot(0), dot(1), dot(2)];
}

/**
 * The matrix product a b.
 * @param {Matrix4} a
 * @param {Matrix4} b
 * @returns {Matrix4}
 */
function multiply(a, b) {
  const c = new Array(16).fill(0);
  for (let j = 0; j < 4; j++) {
    for (let i = 0; i < 4; i++) {
      for (let k = 0; k < 4; k++) c[4 * j + i] += a[4 * k + i] * b[4 * j + k];
    }
  }
  return c;
}

/**
 * The inverse of a rigid transform.
 * @param {Matrix4} m
 * @returns {Matrix4}
 */
function invert(m) {
  const t = column(m, 3);
  /** @param {number} i */
  const dot = (i) => -(m[4 * i] * t[0] + m[4 * i + 1] * t[1] + m[4 * i + 2] * t[2]);
  return [m[0], m[4], m[8], 0, m[1], m[5], m[9], 0, m[2], m[6], m[10], 0, dot(0), dot(1), dot(2), 1];
}
