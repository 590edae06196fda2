// A point is a pixel: its index is the vertex, its place is its ray times its depth, in the world of the scene.
const POINT_VERTEX = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D uDepth, uBefore, uAfter;  // codes of this frame and of its neighbors
uniform vec2 uScale, uScaleBefore, uScaleAfter;  // log(depth) of code 1, and of one step
uniform mat4 uToBefore, uToAfter;  // from this camera to its neighbors'
uniform bool uHasBefore, uHasAfter;
uniform sampler2D uColor, uConfidence, uOrigin, uMap;
uniform mat4 uPose, uView;  // camera to world, world to clip
uniform vec4 uPinhole;  // fx, fy, cx, cy
uniform float uSkew, uSize, uFocal, uEdge, uLeast;
uniform int uMode;
uniform vec2 uDepthRange;
uniform float uMotionRange;
out vec3 vColor;

const float CLOSED = 1.41421356;  // discs so many times as wide as their spacing reach the corners between four of them

float depthOf(uint code, vec2 scale) { return exp(scale.x + (float(code) - 1.0) * scale.y); }

vec3 ray(vec2 pixel) {
  float y = (pixel.y - uPinhole.w) / uPinhole.y;
  return vec3((pixel.x - uPinhole.z - uSkew * y) / uPinhole.x, y, 1.0);
}

// Distance, along a neighbor's line of sight, between a point and what the neighbor sees there; -1: not known, or hidden.
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
  float behind = 1.0 / inverse - point.z;
  return behind < -0.2 * point.z ? -1.0 : abs(behind) * length(sight);
}

// The steps of log(depth) across and along; of the two on either side the smaller one, which an outline does not have.
vec2 steps(ivec2 pixel, ivec2 size, float code) {
  vec2 found = vec2(0.0);
  for (int axis = 0; axis < 2; axis++) {
    ivec2 step = ivec2(1 - axis, axis);
    ivec2 one = pixel - step, two = pixel + step;
    if (any(lessThan(one, ivec2(0))) || any(greaterThanEqual(two, size))) continue;
    uint a = texelFetch(uDepth, one, 0).r, b = texelFetch(uDepth, two, 0).r;
    if (a == 0u || b == 0u) continue;
    found[axis] = min(abs(float(a) - code), abs(float(b) - code)) * uScale.y;
  }
  return found;
}

void main() {
  ivec2 size = textureSize(uDepth, 0);
  ivec2 pixel = ivec2(gl_VertexID % size.x, gl_VertexID / size.x);
  uint code = texelFetch(uDepth, pixel, 0).r;
  float confidence = texelFetch(uConfidence, pixel, 0).r;
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);  // not seen
  gl_PointSize = 1.0;
  vColor = vec3(0.0);
  if (code == 0u || confidence < uLeast) return;
  vec2 slope = steps(pixel, size, float(code));
  // Between something near and something far there is no surface, only points that fly.
  if (uEdge > 0.0 && max(slope.x, slope.y) > uEdge) return;
  float depth = depthOf(code, uScale);
  vec3 local = ray(vec2(pixel)) * depth;
  gl_Position = uView * (uPose * vec4(local, 1.0));
  // What a pixel covers, and more of it where the surface is steep, so that it stays whole when seen from elsewhere.
  float stretch = min(length(vec2(1.0, uPinhole.x * max(slope.x, slope.y))), 3.0);
  gl_PointSize = max(1.0, uSize * CLOSED * stretch * depth / uPinhole.x * uFocal / max(gl_Position.w, 1e-6));
  if (uMode == 0) {
    vColor = texelFetch(uColor, pixel, 0).rgb;
    return;
  }
  float level = uMode == 4 ? texelFetch(uOrigin, pixel, 0).r : confidence;
  if (uMode == 1) level = (1.0 / depth - 1.0 / uDepthRange.y) / (1.0 / uDepthRange.x - 1.0 / uDepthRange.y);
  if (uMode == 2) {
    float before = uHasBefore ? motion(uBefore, uScaleBefore, uToBefore, local) : -1.0;
    float after = uHasAfter ? motion(uAfter, uScaleAfter, uToAfter, local) : -1.0;
    float moved = min(before, after) < 0.0 ? max(before, after) : min(before, after);
    if (moved < 0.0) {
      vColor = vec3(0.35);
      return;
    }
    level = moved / uMotionRange;
  }
  vColor = texture(uMap, vec2(clamp(level, 0.0, 1.0) * (255.0 / 256.0) + 0.5 / 256.0, 0.5)).rgb;
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
layout(location = 0) in vec3 place;
uniform mat4 uView;
void main() { gl_Position = uView * vec4(place, 1.0); }`;

const LINE_FRAGMENT = `#version 300 es
precision mediump float;
uniform vec4 uColor;
out vec4 color;
void main() { color = uColor; }`;


// Segments of ways: those of the last frames are seen, older ends fade.
const TRAIL_VERTEX = `#version 300 es
precision highp float;
layout(location = 0) in vec3 place;
layout(location = 1) in vec4 kind;  // color, and the frame of this end
layout(location = 2) in float last;  // the frame of the segment's later end
uniform mat4 uView;
uniform float uFrame, uLength;
out vec4 vColor;
void main() {
  float age = uFrame - kind.w;
  bool seen = last <= uFrame && last > uFrame - uLength;
  gl_Position = seen ? uView * vec4(place, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_Position.z -= 1e-4 * gl_Position.w;  // before the points that it leads to
  vColor = vec4(mix(kind.rgb, vec3(1.0, 0.9, 0.6), 0.65), 1.0 - 0.9 * clamp(age / uLength, 0.0, 1.0));
}`;

const TRAIL_FRAGMENT = `#version 300 es
precision mediump float;
in vec4 vColor;
out vec4 color;
void main() { color = vColor; }`;
