"""Images of any color space are converted to sRGB: by profile, by PNG chunks, by the codes of AVIF and HEIC."""

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fourdnex.io.images import fit_image, read_image, read_thumbnail

HEIGHT, WIDTH = 64, 96
# Columns: red, green and blue in XYZ of D50.
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
COLOR = (200, 120, 100)


def fixed(*values):
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def gamma_curve(gamma):
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def icc_profile(space, tags, *, connection=b"XYZ ", kind=b"mntr"):
    """An ICC profile, version 2, with these tags."""
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    white = b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)
    tags = {b"desc": description, b"wtpt": white, b"cprt": b"text" + bytes(4) + b"none\0", **tags}
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, tag in tags.items():
        table += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    head = struct.pack(">I4sI", 128 + len(table) + len(body), bytes(4), 0x02100000) + kind + space + connection
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return head + table + body


def rgb_profile(columns, curve):
    names = (b"r", b"g", b"b")
    tags = {name + b"XYZ": b"XYZ " + bytes(4) + fixed(*column) for name, column in zip(names, columns, strict=True)}
    return icc_profile(b"RGB ", tags | {name + b"TRC": curve for name in names})


def cmyk_profile():
    """A CMYK profile, linear from L* 100 without ink to L* 0 with full ink: 50 % black is L* 50, sRGB 119."""
    identity = bytes(range(256))
    corners = b"".join(bytes([255 if number == 0 else 0, 128, 128]) for number in range(16))
    matrix = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    tag = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + corners + identity * 3
    return icc_profile(b"CMYK", {b"A2B0": tag}, connection=b"Lab ", kind=b"prtr")


def with_chunk(path, name, data):
    """Insert a chunk into a PNG file before its pixels."""
    content = path.read_bytes()
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content[:33] + chunk + content[33:])


def save_16_bits(path, color, *, profile=None):
    """Write a PNG or TIFF with 16 bits per channel, gray or RGB, with a profile."""
    cv2 = pytest.importorskip("cv2")
    values = np.empty((HEIGHT, WIDTH, 3) if isinstance(color, tuple) else (HEIGHT, WIDTH), np.uint16)
    values[:] = color[::-1] if isinstance(color, tuple) else color
    assert cv2.imwrite(str(path), values)
    if profile is not None and path.suffix == ".png":
        with_chunk(path, b"iCCP", b"test\0\0" + zlib.compress(profile))
    elif profile is not None:
        add_tiff_tag(path, 34675, profile)


def add_tiff_tag(path, tag, data):
    """A TIFF value: bytes, or one 16-bit integer."""
    content = path.read_bytes()
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = [content[start + 2 + 12 * k : start + 14 + 12 * k] for k in range(count)]
    place = len(content) + len(content) % 2
    if isinstance(data, int):
        entries.append(struct.pack("<HHIHH", tag, 3, 1, data, 0))
        data = b""
    else:
        entries.append(struct.pack("<HHII", tag, 7, len(data), place))
    data += bytes(len(data) % 2)
    table = struct.pack("<H", count + 1) + b"".join(sorted(entries, key=lambda entry: entry[:2][::-1])) + bytes(4)
    start = struct.pack("<I", place + len(data))
    path.write_bytes(content[:4] + start + content[8:].ljust(place - 8, b"\0") + data + table)


def read(path):
    """The color of a uniform image."""
    rgb = read_image(path, height=HEIGHT, width=WIDTH)
    assert np.ptp(rgb.reshape(-1, 3).astype(int), axis=0).max() <= 1
    return rgb[HEIGHT // 2, WIDTH // 2].astype(int)


# Light of (200, 120, 100) by the curve, through the profile's matrix and the inverse of sRGB's, by the curve of sRGB.
SPACES = {
    "p3": (rgb_profile(DISPLAY_P3, gamma_curve(2.2)), (214, 116, 95)),
    "adobe": (rgb_profile(ADOBE_RGB, gamma_curve(2.2)), (224, 121, 99)),
    "linear": (rgb_profile(SRGB, gamma_curve(1.0)), (229, 182, 168)),
    "parametric": (rgb_profile(SRGB, b"para" + bytes(8) + fixed(1.0)), (229, 182, 168)),
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_profiles(tmp_path, space, suffix):
    profile, expected = SPACES[space]
    lossless = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(tmp_path / f"a.{suffix}", icc_profile=profile, **lossless)
    assert np.abs(read(tmp_path / f"a.{suffix}") - expected).max() <= (3 if suffix == "jpg" else 1)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_profiles_with_16_bits(tmp_path, space, suffix):
    profile, expected = SPACES[space]
    save_16_bits(tmp_path / f"a.{suffix}", tuple(257 * value for value in COLOR), profile=profile)
    assert np.abs(read(tmp_path / f"a.{suffix}") - expected).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_shadows_keep_the_precision_of_16_bits(tmp_path, suffix):
    """.002 of the light is 12.92 * .002 * 255 = 6.6 in sRGB; of 8 bits it would be level 1, which is 13."""
    linear = SPACES["linear"][0]
    save_16_bits(tmp_path / f"color.{suffix}", (131, 131, 131), profile=linear)
    assert (read(tmp_path / f"color.{suffix}") == 7).all()
    save_16_bits(tmp_path / f"gray.{suffix}", 131, profile=icc_profile(b"GRAY", {b"kTRC": gamma_curve(1.0)}))
    assert (read(tmp_path / f"gray.{suffix}") == 7).all()


def test_16_bits_without_a_profile_are_rounded(tmp_path):
    """Level 1.6 of 256 becomes 2."""
    save_16_bits(tmp_path / "a.png", (411, 411, 411))
    assert (read(tmp_path / "a.png") == 2).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_images_are_rotated_upright(tmp_path, suffix):
    """Stored rotated, 96 high and 64 wide: the dark lower half is on the left after a clockwise rotation."""
    cv2 = pytest.importorskip("cv2")
    values = np.full((WIDTH, HEIGHT, 3), 257 * 200, np.uint16)
    values[WIDTH // 2 :] = 257 * 20
    assert cv2.imwrite(str(tmp_path / f"a.{suffix}"), values)
    exif = Image.Exif()
    exif[0x0112] = 6
    if suffix == "tif":
        add_tiff_tag(tmp_path / "a.tif", 0x0112, 6)
    else:
        with_chunk(tmp_path / "a.png", b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rgb = read_image(tmp_path / f"a.{suffix}", height=HEIGHT, width=WIDTH)
    assert (rgb[:, :44] == 20).all() and (rgb[:, 52:] == 200).all()


def test_sampled_and_parametric_curves(tmp_path):
    """The sRGB curve, as a table or by its parameters, leaves colors unchanged, in 8 and in 16 bits."""
    signal = np.linspace(0, 1, 1024)
    light = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    table = b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.round(light * 65535).astype(int))
    pieces = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    for name, curve in {"table": table, "pieces": pieces}.items():
        profile = rgb_profile(SRGB, curve)
        Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(tmp_path / f"{name}.png", icc_profile=profile)
        save_16_bits(tmp_path / f"{name}.tif", tuple(257 * value for value in COLOR), profile=profile)
        for suffix in ("png", "tif"):
            assert np.abs(read(tmp_path / f"{name}.{suffix}") - COLOR).max() <= 1


def test_gray_profiles(tmp_path):
    linear = icc_profile(b"GRAY", {b"kTRC": gamma_curve(1.0)})
    Image.new("L", (WIDTH, HEIGHT), 128).save(tmp_path / "gray.png", icc_profile=linear)
    assert np.abs(read(tmp_path / "gray.png") - 188).max() <= 1
    Image.new("L", (WIDTH, HEIGHT), 128).save(tmp_path / "rgb.jpg", icc_profile=SPACES["linear"][0])
    assert np.abs(read(tmp_path / "rgb.jpg") - 188).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_profiles(tmp_path, suffix):
    Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 128)).save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile())
    assert np.abs(read(tmp_path / f"a.{suffix}") - 119).max() <= 2


def test_profiles_of_palettes_and_transparent_images(tmp_path):
    profile, expected = SPACES["p3"]
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).quantize(4).save(tmp_path / "palette.png", icc_profile=profile)
    assert np.abs(read(tmp_path / "palette.png") - expected).max() <= 1
    Image.new("RGBA", (WIDTH, HEIGHT), (*COLOR, 0)).save(tmp_path / "clear.png", icc_profile=profile)
    assert (read(tmp_path / "clear.png") == 255).all()
    Image.new("RGBA", (WIDTH, HEIGHT), (*COLOR, 255)).save(tmp_path / "opaque.png", icc_profile=profile)
    assert np.abs(read(tmp_path / "opaque.png") - expected).max() <= 1


def test_thumbnails_and_open_images_are_converted(tmp_path):
    profile, expected = SPACES["p3"]
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(tmp_path / "a.png", icc_profile=profile)
    assert np.abs(np.subtract(read_thumbnail(tmp_path / "a.png", 48).getpixel((20, 20)), expected)).max() <= 1
    with Image.open(tmp_path / "a.png") as image:
        opened = fit_image(image, height=HEIGHT, width=WIDTH)
        loaded = fit_image(image, height=HEIGHT, width=WIDTH)
    assert np.abs(opened[0, 0].astype(int) - expected).max() <= 1 and np.array_equal(opened, loaded)


@pytest.mark.parametrize("broken", [b"", b"no profile at all", SPACES["p3"][0][:150], cmyk_profile()])
def test_a_damaged_profile_is_ignored_with_a_warning(tmp_path, broken, caplog):
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(tmp_path / "a.tif", icc_profile=broken)
    save_16_bits(tmp_path / "b.png", tuple(257 * value for value in COLOR), profile=broken)
    for name in ("a.tif", "b.png"):
        caplog.clear()
        assert (read(tmp_path / name) == COLOR).all()
        warning = f"{name}: ignoring the color profile, colors are taken as sRGB"
        assert not broken or warning in caplog.text


def test_png_chunks(tmp_path):
    """gAMA 1 is linear light, 1/2.2 is sRGB. cICP overrides it: diffuse white, at 58 % in PQ, becomes 251."""
    for name, level, chunks, expected in (
        ("linear", 128, {b"gAMA": struct.pack(">I", 100_000)}, 188),
        ("usual", 128, {b"gAMA": struct.pack(">I", 45_455)}, 128),
        ("srgb", 128, {b"sRGB": b"\0", b"gAMA": struct.pack(">I", 100_000)}, 128),
        ("pq", 148, {b"gAMA": struct.pack(">I", 45_455), b"cICP": bytes([9, 16, 0, 1])}, 251),
    ):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (WIDTH, HEIGHT), (level,) * 3).save(path)
        save_16_bits(tmp_path / f"{name}-16.png", (257 * level,) * 3)
        for file in (path, tmp_path / f"{name}-16.png"):
            for chunk, data in chunks.items():
                with_chunk(file, chunk, data)
            assert np.abs(read(file) - expected).max() <= 1, name


def test_png_chromaticities(tmp_path):
    """Display P3 by cHRM gives the same colors as by a profile."""
    path = tmp_path / "a.png"
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(path)
    with_chunk(path, b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    with_chunk(path, b"gAMA", struct.pack(">I", 45_455))
    assert np.abs(read(path) - SPACES["p3"][1]).max() <= 3


def test_avif_codes(tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT), (148,) * 3).save(tmp_path / "a.avif", quality=100)
    content = (tmp_path / "a.avif").read_bytes()
    place = content.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(content[:place] + struct.pack(">HH", 9, 16) + content[place + 4 :])
    assert np.abs(read(tmp_path / "a.avif") - 251).max() <= 2


def test_heic_without_its_package_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100))
    (tmp_path / "b.jpg").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100))
    for name in ("a.heic", "b.jpg"):
        with pytest.raises(ValueError, match=r"HEIC needs the package pillow-heif: pip install 'fourdnex\[heif\]'"):
            read_image(tmp_path / name, height=HEIGHT, width=WIDTH)


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    profile, expected = SPACES["p3"]
    exif = Image.Exif()
    exif[0x0112] = 6
    left = Image.new("RGB", (HEIGHT, WIDTH), COLOR)
    left.paste((0, 0, 0), (0, 0, HEIGHT, WIDTH // 2))
    heif = pillow_heif.from_pillow(left)
    heif.info["icc_profile"] = profile
    heif.save(str(tmp_path / "a.heic"), quality=-1, exif=exif.tobytes())
    rgb = read_image(tmp_path / "a.heic", height=HEIGHT, width=WIDTH).astype(int)
    # Turned clockwise, the lower half of what is stored lies on the left.
    assert np.abs(rgb[:, :40] - expected).max() <= 3 and rgb[:, 56:].max() <= 3


def test_raw_camera_files_raise(tmp_path):
    """DNG and other raw files are TIFF files whose first image is a thumbnail."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0xC612] = b"\x01\x04\x00\x00"
    tags.tagtype[0xC612] = 1
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(tmp_path / "a.tif", tiffinfo=tags)
    Image.new("RGB", (WIDTH, HEIGHT), COLOR).save(tmp_path / "b.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.NEF")
    (tmp_path / "c.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(100))
    for name in ("a.tif", "b.NEF", "c.cr3"):
        with pytest.raises(ValueError, match=f"{name}: raw camera files are not supported; convert it to JPEG"):
            read_image(tmp_path / name, height=HEIGHT, width=WIDTH)
