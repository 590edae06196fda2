"""Images of every common format become upright RGB of the requested size, or raise an error that names the file."""

import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from fourdnex.generation.image_listing import list_images
from fourdnex.io.images import read_image, read_thumbnail, upright_size

HEIGHT, WIDTH = 64, 96


@pytest.fixture
def halves():
    """A 96 x 192 image, left half red, right half blue, exactly twice the size that is read."""
    rgb = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    rgb[:, :WIDTH, 0] = 200
    rgb[:, WIDTH:, 2] = 200
    return rgb


def read(path):
    rgb = read_image(path, height=HEIGHT, width=WIDTH)
    assert rgb.shape == (HEIGHT, WIDTH, 3) and rgb.dtype == np.uint8
    return rgb


def assert_halves(rgb, tolerance=3):
    left, right = rgb[:, : WIDTH // 2 - 2], rgb[:, WIDTH // 2 + 2 :]
    assert np.abs(left.astype(int) - (200, 0, 0)).max() <= tolerance
    assert np.abs(right.astype(int) - (0, 0, 200)).max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "ppm"])
def test_common_formats(tmp_path, halves, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(halves).save(path, **({"quality": 95, "subsampling": 0} if suffix == "jpg" else {}))
    assert_halves(read(path), tolerance=12 if suffix in ("jpg", "webp") else 0)


def test_content_counts_more_than_the_suffix(tmp_path, halves):
    Image.fromarray(halves).save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", tmp_path / "a.jpg")
    assert_halves(read(tmp_path / "a.jpg"))


def test_images_are_cropped_evenly(tmp_path):
    """A square is scaled to the width, and cropped equally at the top and the bottom."""
    rgb = np.zeros((96, 96, 3), np.uint8)
    rgb[16:80] = 100
    Image.fromarray(rgb).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == 100).all()


def test_small_image_is_enlarged(tmp_path):
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == (10, 20, 30)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, halves, orientation, suffix):
    """The stored pixels are the upright image, transformed by the inverse of the orientation."""
    marked = halves.copy()
    marked[:HEIGHT, :, 1] = 200  # so that up and down differ too
    upright = Image.fromarray(marked)
    turn = Image.Transpose
    stored = {
        1: upright,
        2: upright.transpose(turn.FLIP_LEFT_RIGHT),
        3: upright.transpose(turn.ROTATE_180),
        4: upright.transpose(turn.FLIP_TOP_BOTTOM),
        5: upright.transpose(turn.TRANSPOSE),
        6: upright.transpose(turn.ROTATE_90),
        7: upright.transpose(turn.TRANSVERSE),
        8: upright.transpose(turn.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {}
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **lossless)
    upright.save(tmp_path / "expected.png")
    assert np.array_equal(read(tmp_path / f"a.{suffix}"), read(tmp_path / "expected.png"))
    with Image.open(tmp_path / f"a.{suffix}") as image:
        opened = upright_size(image)
        image.load()
        sizes = {opened, upright_size(image), upright_size(tmp_path / f"a.{suffix}"), upright_size(marked)}
    assert sizes == {(upright.height, upright.width)}


def test_rotated_jpeg_decoded_at_a_fraction_of_its_size(tmp_path, halves):
    exif = Image.Exif()
    exif[0x0112] = 6
    big = Image.fromarray(halves).resize((3072, 2048), Image.Resampling.NEAREST)
    big.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", quality=95, subsampling=0, exif=exif)
    assert_halves(read(tmp_path / "a.jpg"), tolerance=6)
    assert upright_size(tmp_path / "a.jpg") == (2048, 3072)


def test_thumbnails_are_whole_and_upright(tmp_path, halves):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(halves).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    small = read_thumbnail(tmp_path / "a.png", 48)
    assert (small.size, small.mode) == ((48, 32), "RGB")
    assert small.getpixel((2, 16)) == (200, 0, 0) and small.getpixel((45, 16)) == (0, 0, 200)


def test_postscript_is_rejected_for_thumbnails(tmp_path, halves):
    Image.fromarray(halves).save(tmp_path / "a.eps")
    with pytest.raises(ValueError, match=r"a\.eps: not an image"):
        read_thumbnail(tmp_path / "a.eps", 48)


def test_only_readme_and_license_files_are_excluded_by_name(tmp_path):
    kept = ["license-plate.jpg", "readme_first.png"]
    for name in [*kept, "README", "readme.de.md", "LICENSE", "LICENSES.md", "License.txt", ".hidden.jpg"]:
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == kept


def test_gray_and_black_and_white(tmp_path):
    Image.new("L", (WIDTH, HEIGHT), 77).save(tmp_path / "l.png")
    assert (read(tmp_path / "l.png") == 77).all()
    Image.new("1", (WIDTH, HEIGHT), 1).save(tmp_path / "1.png")
    assert (read(tmp_path / "1.png") == 255).all()


def test_cmyk(tmp_path):
    """Pure cyan is (0, 255, 255)."""
    Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - (0, 255, 255)).max() <= 4
    Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0)).save(tmp_path / "a.tif")
    assert (read(tmp_path / "a.tif") == (0, 255, 255)).all()


def test_transparency_is_composited_over_white(tmp_path):
    Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read(tmp_path / "clear.png") == 255).all()
    Image.new("RGBA", (WIDTH, HEIGHT), (200, 0, 0, 128)).save(tmp_path / "half.png")
    assert np.abs(read(tmp_path / "half.png").astype(int) - (227, 127, 127)).max() <= 1
    Image.new("LA", (WIDTH, HEIGHT), (10, 0)).save(tmp_path / "la.png")
    assert (read(tmp_path / "la.png") == 255).all()
    Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert (read(tmp_path / "key.png") == 255).all()


def test_palette_with_and_without_transparency(tmp_path, halves):
    indexed = Image.fromarray(halves).quantize(4)
    indexed.save(tmp_path / "a.png")
    assert_halves(read(tmp_path / "a.png"))
    indexed.save(tmp_path / "b.png", transparency=indexed.getpixel((0, 0)))
    assert (read(tmp_path / "b.png")[:, :40] == 255).all()


def test_16_bit_gray_is_scaled_not_clipped(tmp_path):
    values = np.full((HEIGHT, WIDTH), 257 * 100, np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        assert (read(tmp_path / name) == 100).all()
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "b.tif")
    assert (read(tmp_path / "b.tif") == 100).all()


def test_16_bit_color(tmp_path):
    cv2 = pytest.importorskip("cv2")
    bgr = np.full((HEIGHT, WIDTH, 3), (257 * 30, 257 * 20, 257 * 10), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), bgr)
    assert (read(tmp_path / "a.png") == (10, 20, 30)).all()


def test_floating_point(tmp_path):
    Image.fromarray(np.full((HEIGHT, WIDTH), 0.2, np.float32)).save(tmp_path / "a.tif")
    assert (read(tmp_path / "a.tif") == 51).all()
    Image.fromarray(np.full((HEIGHT, WIDTH), 7.0, np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ValueError, match=r"b\.tif: expected gray values in 0\.\.1, got 7"):
        read(tmp_path / "b.tif")


def test_the_first_frame_of_an_animation_is_used(tmp_path):
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read(tmp_path / "a.gif") == (255, 0, 0)).all()


def test_very_wide_images(tmp_path):
    Image.new("RGB", (20_000, 300), (9, 8, 7)).save(tmp_path / "strip.png")
    assert (read(tmp_path / "strip.png") == (9, 8, 7)).all()
    Image.new("L", (20_000, 10_000), 128).save(tmp_path / "panorama.jpg")  # 200 million pixels
    assert (read(tmp_path / "panorama.jpg") == 128).all()


def test_too_many_pixels_raise_before_decoding(tmp_path):
    """A PNG of 18,000 x 10,000 black dots takes 22 KB on disk."""
    Image.new("1", (18_000, 10_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"bomb\.png: expected at most [\d,]+ pixels"):
        read(tmp_path / "bomb.png")


def test_errors_name_the_file(tmp_path):
    (tmp_path / "notes.jpg").write_text("not an image at all")
    with pytest.raises(ValueError, match=r"notes\.jpg: not an image"):
        read(tmp_path / "notes.jpg")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty\.png: the file is empty"):
        read(tmp_path / "empty.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(ValueError, match=r"dot\.png: expected at least 16 x 16 pixels, got 1 x 1"):
        read(tmp_path / "dot.png")
    with pytest.raises(ValueError, match="got a folder"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read(tmp_path / "none.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png: expected a regular file"):
        read(tmp_path / "pipe.png")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp"])
def test_truncated_images_raise(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: max(4, int(len(whole) * share))])
        with pytest.raises(ValueError, match=rf"a\.{suffix}: "):
            read(path)


def test_an_srgb_profile_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30)).save(tmp_path / "a.png", icc_profile=profile)
    assert (read(tmp_path / "a.png") == (10, 20, 30)).all()
