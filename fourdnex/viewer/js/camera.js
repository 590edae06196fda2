// The orbit camera: a pose that rotates about a pivot point, or the pose of the current frame's camera.

const orbit = {
  /** Pose that yaw and pitch are relative to. @type {Matrix4} */
  base: poses[0],
  /** World coordinates of the orbit center. @type {Vector3} */
  pivot: scene.pivot,
  distance: 1,
  yaw: 0,
  pitch: 0,
};

/** Whether the scene is shown from the pose of the current frame's camera. */
function isFrameCamera() {
  return input("camera-view").checked;
}

/** Resets the view: slightly behind, above and to the right of the first camera. */
function resetView() {
  const pose = poses[0];
  const d = scene.typical_depth;
  orbit.base = pose;
  orbit.pivot = scene.pivot;
  const eye = add(column(pose, 3), rotate(pose, [0.25 * d, -0.2 * d, -0.3 * d]));
  const offset = rotate(invert(pose), add(orbit.pivot, eye, -1));
  orbit.distance = Math.hypot(...offset);
  orbit.yaw = Math.atan2(offset[0], offset[2]);
  orbit.pitch = Math.asin(-offset[1] / orbit.distance);
  input("camera-view").checked = false;
  state.dirty = true;
}

/**
 * The camera-to-world pose of the orbit camera.
 * @returns {Matrix4}
 */
function orbitPose() {
  const [cy, sy] = [Math.cos(orbit.yaw), Math.sin(orbit.yaw)];
  const [cp, sp] = [Math.cos(orbit.pitch), Math.sin(orbit.pitch)];
  const local = [cy, 0, -sy, 0, sy * sp, cp, cy * sp, 0, sy * cp, -sp, cy * cp, 0, 0, 0, 0, 1];
  const pose = multiply([...orbit.base.slice(0, 12), 0, 0, 0, 1], local);
  [pose[12], pose[13], pose[14]] = add(orbit.pivot, column(pose, 2), -orbit.distance);
  return pose;
}

/**
 * @typedef {object} ViewProjection
 * @property {Matrix4} matrix - World to clip coordinates.
 * @property {number} focal - Focal length in canvas pixels.
 */

/**
 * The projection of the current view.
 * @returns {ViewProjection}
 */
function viewProjection() {
  const [fx, fy, cx, cy] = scene.intrinsics;
  const { width, height } = canvas;
  const near = 0.005 * scene.typical_depth;
  const far = 500 * scene.typical_depth;
  // The height of the playback bar, in canvas pixels: the image is centered above it.
  const bar = (height * Math.min(96, 0.3 * canvas.clientHeight)) / Math.max(canvas.clientHeight, 1);
  // The frame fits the canvas in the frame camera's view; the orbit view has a slightly wider field of view.
  const zoom = Math.min(width / scene.width, (height - bar) / scene.height) * (isFrameCamera() ? 0.97 : 0.9);
  const [x, y] = isFrameCamera() ? [cx + 0.5 - scene.width / 2, cy + 0.5 - scene.height / 2] : [0, 0];
  const projection = [
    (2 * fx * zoom) / width, 0, 0, 0,
    0, (-2 * fy * zoom) / height, 0, 0,
    (2 * x * zoom) / width, (bar - 2 * y * zoom) / height, (far + near) / (far - near), 1,
    0, 0, (-2 * far * near) / (far - near), 0,
  ];
  const pose = isFrameCamera() ? poses[state.frame] : orbitPose();
  return { matrix: multiply(projection, invert(pose)), focal: fx * zoom };
}
