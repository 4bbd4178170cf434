"""Draws with OpenGL ES 3 through EGL, without a window, and looks at every pixel."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_float, c_int, c_uint, c_void_p

EGL = ctypes.CDLL("libEGL.so.1")
EGL.eglGetProcAddress.restype = c_void_p


def function(name, result, *arguments):
    return CFUNCTYPE(result, *arguments)(EGL.eglGetProcAddress(name.encode()))


def context():
    """Makes a context current that has no surface."""
    display = function("eglGetPlatformDisplay", c_void_p, c_uint, c_void_p, c_void_p)(
        0x31DD, None, None  # EGL_PLATFORM_SURFACELESS_MESA
    )
    assert function("eglInitialize", c_uint, c_void_p, c_void_p, c_void_p)(display, None, None)
    function("eglBindAPI", c_uint, c_uint)(0x30A0)  # EGL_OPENGL_ES_API
    create = function("eglCreateContext", c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_int))
    made = create(display, None, None, (c_int * 3)(0x3098, 3, 0x3038))
    assert made, "no context"
    current = function("eglMakeCurrent", c_uint, c_void_p, c_void_p, c_void_p, c_void_p)
    assert current(display, None, None, made)


SIZE = 64
VERTEX = b"""#version 300 es
in vec2 place;
void main() { gl_Position = vec4(place, 0.0, 1.0); }
"""
FRAGMENT = b"""#version 300 es
precision highp float;
uniform float blue;
out vec4 colour;
void main() { colour = vec4(floor(gl_FragCoord.xy) / 255.0, blue, 1.0); }
"""

context()
shader = function("glCreateShader", c_uint, c_uint)
source = function("glShaderSource", None, c_uint, c_int, POINTER(c_char_p), c_void_p)
compile_shader = function("glCompileShader", None, c_uint)
attach = function("glAttachShader", None, c_uint, c_uint)
program = function("glCreateProgram", c_uint)()
for kind, text in ((0x8B31, VERTEX), (0x8B30, FRAGMENT)):
    made = shader(kind)
    source(made, 1, byref(c_char_p(text)), None)
    compile_shader(made)
    attach(program, made)
function("glLinkProgram", None, c_uint)(program)
function("glUseProgram", None, c_uint)(program)
blue = function("glGetUniformLocation", c_int, c_uint, c_char_p)(program, b"blue")
uniform = function("glUniform1f", None, c_int, c_float)

number = c_uint()
function("glGenTextures", None, c_int, c_void_p)(1, byref(number))
bind = function("glBindTexture", None, c_uint, c_uint)
bind(0x0DE1, number.value)  # GL_TEXTURE_2D
function("glTexStorage2D", None, c_uint, c_int, c_uint, c_int, c_int)(
    0x0DE1, 1, 0x8058, SIZE, SIZE  # GL_RGBA8
)
frame = c_uint()
function("glGenFramebuffers", None, c_int, c_void_p)(1, byref(frame))
function("glBindFramebuffer", None, c_uint, c_uint)(0x8D40, frame.value)
function("glFramebufferTexture2D", None, c_uint, c_uint, c_uint, c_uint, c_int)(
    0x8D40, 0x8CE0, 0x0DE1, number.value, 0
)
assert function("glCheckFramebufferStatus", c_uint, c_uint)(0x8D40) == 0x8CD5

buffer = c_uint()
function("glGenBuffers", None, c_int, c_void_p)(1, byref(buffer))
function("glBindBuffer", None, c_uint, c_uint)(0x8892, buffer.value)
corners = (c_float * 6)(-1, -1, 3, -1, -1, 3)
function("glBufferData", None, c_uint, ctypes.c_ssize_t, c_void_p, c_uint)(
    0x8892, ctypes.sizeof(corners), corners, 0x88E4
)
place = function("glGetAttribLocation", c_int, c_uint, c_char_p)(program, b"place")
function("glVertexAttribPointer", None, c_uint, c_int, c_uint, c_uint, c_int, c_void_p)(
    place, 2, 0x1406, 0, 0, None
)
function("glEnableVertexAttribArray", None, c_uint)(place)
function("glViewport", None, c_int, c_int, c_int, c_int)(0, 0, SIZE, SIZE)

draw = function("glDrawArrays", None, c_uint, c_int, c_int)
finish = function("glFinish", None)
read = function("glReadPixels", None, c_int, c_int, c_int, c_int, c_uint, c_uint, c_void_p)
pixels = (ctypes.c_ubyte * (SIZE * SIZE * 4))()
expected = bytearray(value for y in range(SIZE) for x in range(SIZE) for value in (x, y, 0, 255))
for turn in range(50):
    uniform(blue, turn / 255.0)
    draw(0x0004, 0, 3)
    finish()
    read(0, 0, SIZE, SIZE, 0x1908, 0x1401, pixels)
    expected[2::4] = bytes([turn]) * (SIZE * SIZE)
    if bytes(pixels) != expected:
        wrong = sum(one != other for one, other in zip(pixels, expected))
        raise SystemExit(f"turn {turn}: {wrong} values are wrong")
assert function("glGetError", c_uint)() == 0
text = function("glGetString", c_char_p, c_uint)
print("drawn by", text(0x1F01).decode())  # GL_RENDERER
