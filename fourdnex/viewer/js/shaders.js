// GLSL shaders. A point is a pixel: its index is the vertex index, its position is its ray times its depth.

const POINT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D uDepth, uPreviousDepth, uNextDepth;  // depth codes of this frame and its neighbors
uniform vec2 uScale, uPreviousScale, uNextScale;  // log(depth) of code 1, and step of log(depth) per code
uniform mat4 uToPrevious, uToNext;  // from this camera to the neighbors' cameras
uniform bool uHasPrevious, uHasNext;
uniform sampler2D uColor, uConfidence, uOrigin, uColormap;
uniform mat4 uPose, uView;  // camera to world, world to clip
uniform vec4 uPinhole;  // fx, fy, cx, cy
uniform float uSkew, uSize, uFocal, uEdgeThreshold, uMinConfidence;
uniform int uMode;
uniform vec2 uDepthRange;
uniform float uMotionRange;
out vec3 vColor;

const float DISC_SCALE = 1.41421356;  // discs of sqrt(2) times their spacing leave no gap between four of them

float depthOf(uint code, vec2 scale) { return exp(scale.x + (float(code) - 1.0) * scale.y); }

vec3 ray(vec2 pixel) {
  float y = (pixel.y - uPinhole.w) / uPinhole.y;
  return vec3((pixel.x - uPinhole.z - uSkew * y) / uPinhole.x, y, 1.0);
}

// Distance, along a neighboring camera's line of sight, between a point and the surface that camera observes.
// -1 where it is unknown or the point is occluded.
float motion(usampler2D other, vec2 scale, mat4 relative, vec3 local) {
  vec3 point = (relative * vec4(local, 1.0)).xyz;
  if (point.z <= 0.0) return -1.0;
  vec3 sight = point / point.z;
  vec2 pixel = vec2(uPinhole.x * sight.x + uSkew * sight.y, uPinhole.y * sight.y) + uPinhole.zw;
  ivec2 corner = ivec2(floor(pixel));
  ivec2 last = textureSize(other, 0) - 2;
  if (any(lessThan(corner, ivec2(0))) || any(greaterThan(corner, last))) return -1.0;
  vec2 part = pixel - vec2(corner);
  float inverse = 0.0;
  for (int i = 0; i < 4; i++) {
    ivec2 step = ivec2(i & 1, i >> 1);
    uint code = texelFetch(other, corner + step, 0).r;
    if (code == 0u) return -1.0;
    vec2 weight = mix(1.0 - part, part, vec2(step));
    inverse += weight.x * weight.y / depthOf(code, scale);
  }
  float difference = 1.0 / inverse - point.z;
  return difference < -0.2 * point.z ? -1.0 : abs(difference) * length(sight);
}

// Slope of log(depth) per pixel along both image axes: the smaller difference of the two sides, so that pixels beside a
// depth edge have the slope of their own surface.
vec2 depthSlope(ivec2 pixel, ivec2 size, float code) {
  vec2 slope = vec2(0.0);
  for (int axis = 0; axis < 2; axis++) {
    ivec2 step = ivec2(1 - axis, axis);
    ivec2 before = pixel - step, after = pixel + step;
    if (any(lessThan(before, ivec2(0))) || any(greaterThanEqual(after, size))) continue;
    uint a = texelFetch(uDepth, before, 0).r, b = texelFetch(uDepth, after, 0).r;
    if (a == 0u || b == 0u) continue;
    slope[axis] = min(abs(float(a) - code), abs(float(b) - code)) * uScale.y;
  }
  return slope;
}

void main() {
  ivec2 size = textureSize(uDepth, 0);
  ivec2 pixel = ivec2(gl_VertexID % size.x, gl_VertexID / size.x);
  uint code = texelFetch(uDepth, pixel, 0).r;
  float confidence = texelFetch(uConfidence, pixel, 0).r;
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);  // outside of the clip volume
  gl_PointSize = 1.0;
  vColor = vec3(0.0);
  if (code == 0u || confidence < uMinConfidence) return;
  vec2 slope = depthSlope(pixel, size, float(code));
  // Flying pixels between a near and a far surface.
  if (uEdgeThreshold > 0.0 && max(slope.x, slope.y) > uEdgeThreshold) return;
  float depth = depthOf(code, uScale);
  vec3 local = ray(vec2(pixel)) * depth;
  gl_Position = uView * (uPose * vec4(local, 1.0));
  // The footprint of a pixel, larger on slanted surfaces, so that they have no holes in other views.
  float stretch = min(length(vec2(1.0, uPinhole.x * max(slope.x, slope.y))), 3.0);
  gl_PointSize = max(1.0, uSize * DISC_SCALE * stretch * depth / uPinhole.x * uFocal / max(gl_Position.w, 1e-6));
  if (uMode == 0) {
    vColor = texelFetch(uColor, pixel, 0).rgb;
    return;
  }
  float level = uMode == 4 ? texelFetch(uOrigin, pixel, 0).r : confidence;
  if (uMode == 1) level = (1.0 / depth - 1.0 / uDepthRange.y) / (1.0 / uDepthRange.x - 1.0 / uDepthRange.y);
  if (uMode == 2) {
    float previous = uHasPrevious ? motion(uPreviousDepth, uPreviousScale, uToPrevious, local) : -1.0;
    float next = uHasNext ? motion(uNextDepth, uNextScale, uToNext, local) : -1.0;
    float distance = min(previous, next) < 0.0 ? max(previous, next) : min(previous, next);
    if (distance < 0.0) {
      vColor = vec3(0.35);
      return;
    }
    level = distance / uMotionRange;
  }
  vColor = texture(uColormap, vec2(clamp(level, 0.0, 1.0) * (255.0 / 256.0) + 0.5 / 256.0, 0.5)).rgb;
}`;

const POINT_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 vColor;
out vec4 color;
void main() {
  vec2 offset = gl_PointCoord - 0.5;
  if (dot(offset, offset) > 0.25) discard;
  color = vec4(vColor, 1.0);
}`;

const LINE_VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec3 position;
uniform mat4 uView;
void main() { gl_Position = uView * vec4(position, 1.0); }`;

const LINE_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 uColor;
out vec4 color;
void main() { color = uColor; }`;

// Trail segments: those of the last uLength frames are drawn, and fade with age.
const TRAIL_VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec3 position;
layout(location = 1) in vec4 colorAndFrame;  // color, and the frame of this vertex
layout(location = 2) in float segmentEnd;  // the later frame of the segment
uniform mat4 uView;
uniform float uFrame, uLength;
out vec4 vColor;
void main() {
  float age = uFrame - colorAndFrame.w;
  bool visible = segmentEnd <= uFrame && segmentEnd > uFrame - uLength;
  gl_Position = visible ? uView * vec4(position, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_Position.z -= 1e-4 * gl_Position.w;  // in front of the points at its end
  vColor = vec4(mix(colorAndFrame.rgb, vec3(1.0, 0.9, 0.6), 0.65), 1.0 - 0.9 * clamp(age / uLength, 0.0, 1.0));
}`;

const TRAIL_FRAGMENT = `#version 300 es
precision mediump float;
in vec4 vColor;
out vec4 color;
void main() { color = vColor; }`;
