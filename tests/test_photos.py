"""Any folder of photos becomes one array, and every file that is left out gets a reason."""

import io
import os
import random
import socket
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from few_labels import photos
from few_labels.errors import InputError
from few_labels.photos import Channels, Photos, leave_out_copies, match_channels, prepare, printable, read_photos
from few_labels.stored import Stored
from tests.permissions import as_nobody, shared_folder

PROJECT = Path(__file__).parent.parent
SIZE = 12
LOSSLESS: dict[str, dict[str, Any]] = {"png": {}, "bmp": {}, "tiff": {}, "webp": {"lossless": True}}
ORIENTATION = 0x0112


def noise(height: int = SIZE, width: int = SIZE, channels: int = 3, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def flat(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (SIZE, SIZE), color)


def save(path: Path, picture: Image.Image | np.ndarray, **options: Any) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(path, **options)
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def read(folder: Path, part: str = "", size: int = SIZE, channels: Channels = Channels.AUTO) -> Photos:
    return read_photos(folder, part, size, channels)


def reasons(found: Photos) -> dict[str, str]:
    assert list(found.rejected.columns) == ["image", "reason"]
    assert not found.rejected.image.duplicated().any()
    assert all("\n" not in reason for reason in found.rejected.reason)
    return dict(zip(found.rejected.image, found.rejected.reason, strict=True))


def only_image(found: Photos) -> np.ndarray:
    assert reasons(found) == {}
    assert len(found.images) == len(found.name) == len(found.folder_class) == 1
    return found.images[0]


def run_apart(program: str, folder: Path) -> str:
    """Run a program that reads photos in a process of its own, and give what it prints."""
    start = "import sys; from pathlib import Path; from few_labels.photos import Channels, read_photos\n"
    return subprocess.run(
        [sys.executable, "-c", start + program, folder],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_an_image_of_the_right_size_and_mode_keeps_its_bytes(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a.{suffix}", noise(), **LOSSLESS[suffix])
    np.testing.assert_array_equal(only_image(read(tmp_path)), noise())


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif"])
def test_grey_keeps_its_bytes_too(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"a.{suffix}", noise(channels=1))
    np.testing.assert_array_equal(only_image(read(tmp_path)), noise(channels=1)[..., None])


def test_a_jpeg_comes_out_as_pillow_decodes_it(tmp_path: Path) -> None:
    content = save(tmp_path / "a.jpg", noise())
    np.testing.assert_array_equal(only_image(read(tmp_path)), np.asarray(Image.open(io.BytesIO(content))))


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    save(tmp_path / "a.gif", flat("RGB", "red"), save_all=True, append_images=[flat("RGB", "blue")])
    assert (only_image(read(tmp_path)) == (255, 0, 0)).all()


def test_a_picture_with_a_second_one_behind_it_is_a_jpeg(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", flat("L", 50), format="MPO", save_all=True, append_images=[flat("L", 200)])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert (only_image(read(tmp_path)) == 50).all()


MODES: list[tuple[str, Image.Image, str, Any]] = [
    ("1-bit", flat("1", 1), "png", 255),
    ("1-bit tiff", flat("1", 1), "tiff", 255),
    ("palette", flat("RGB", (10, 20, 30)).quantize(4), "png", (10, 20, 30)),
    ("grey palette", flat("RGB", (20, 20, 20)).quantize(4), "png", 20),
    ("transparent", flat("RGBA", (10, 20, 30, 0)), "png", 255),
    ("half transparent", flat("RGBA", (0, 100, 200, 51)), "png", (204, 224, 244)),
    ("opaque alpha", flat("RGBA", (10, 20, 30, 255)), "png", (10, 20, 30)),
    ("grey and alpha", flat("LA", (0, 51)), "png", 204),
    ("alpha webp", flat("RGBA", (10, 20, 30, 0)), "webp", 255),
    ("cmyk tiff", flat("CMYK", (0, 255, 255, 0)), "tiff", (255, 0, 0)),
    ("16-bit png", Image.fromarray(np.full((SIZE, SIZE), 200 * 257, np.uint16)), "png", 200),
    ("16-bit tiff", Image.fromarray(np.full((SIZE, SIZE), 100 * 257 + 128, np.uint16)), "tiff", 100),
    ("16-bit big-endian", Image.fromarray(np.full((SIZE, SIZE), 90 * 257, ">u2")), "tiff", 90),
    ("16-bit dark", Image.fromarray(np.full((SIZE, SIZE), 255, np.uint16)), "png", 1),
]


@pytest.mark.parametrize(("picture", "suffix", "pixel"), [mode[1:] for mode in MODES], ids=[mode[0] for mode in MODES])
def test_every_mode(tmp_path: Path, picture: Image.Image, suffix: str, pixel: Any) -> None:
    options = LOSSLESS.get(suffix, {}) | ({"exact": True} if suffix == "webp" else {})
    save(tmp_path / f"a.{suffix}", picture, **options)
    image = only_image(read(tmp_path))
    assert image.shape == (SIZE, SIZE, np.size(pixel))
    assert (image == pixel).all()


def test_a_cmyk_jpeg(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", flat("CMYK", (0, 255, 255, 0)))
    assert abs(only_image(read(tmp_path)).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("picture", [flat("RGB", "red").quantize(4), flat("RGB", "red"), flat("L", 7)])
def test_a_colour_that_stands_for_transparent(tmp_path: Path, picture: Image.Image) -> None:
    save(tmp_path / "a.png", picture, transparency=picture.getpixel((0, 0)))
    assert (only_image(read(tmp_path)) == 255).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_have_no_known_range(tmp_path: Path, mode: str) -> None:
    save(tmp_path / "a.tiff", Image.new(mode, (SIZE, SIZE), 7))
    assert f"mode {mode}" in reasons(read(tmp_path))["a.tiff"]


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = noise(8, SIZE)
    as_stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    save(tmp_path / f"a.{suffix}", np.ascontiguousarray(as_stored), exif=exif, **LOSSLESS[suffix])
    np.testing.assert_array_equal(only_image(read(tmp_path))[2:10], upright)


def test_exif_turns_a_jpeg_that_is_decoded_at_a_reduced_size(tmp_path: Path) -> None:
    stored = np.zeros((400, 800, 3), np.uint8)
    stored[:, :400] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(tmp_path / "a.jpg", stored, exif=exif)
    image = only_image(read(tmp_path))[..., 0]
    assert (image[:5, 3:9] > 240).all()
    assert (image[7:, 3:9] < 15).all()


# A header that is none, one that is cut short, and a resolution that is a letter.
TURNED_AND = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
DAMAGED_EXIF = [b"junk", TURNED_AND, TURNED_AND + b"\x01\x1a\0\x02\0\0\0\x01a\0\0\0\0\0\0\0"]


@pytest.mark.parametrize("exif", DAMAGED_EXIF)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_damaged_exif_costs_no_picture(tmp_path: Path, suffix: str, exif: bytes) -> None:
    save(tmp_path / f"a.{suffix}", flat("RGB", "white"), exif=exif)
    assert (only_image(read(tmp_path)) == 255).all()


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (12, 6, slice(3, 9), slice(0, 12)),
        (6, 12, slice(0, 12), slice(3, 9)),
        (6, 3, slice(3, 9), slice(0, 12)),
        (300, 100, slice(4, 8), slice(0, 12)),
        (3, 3, slice(0, 12), slice(0, 12)),
        (1, 1, slice(0, 12), slice(0, 12)),
        (1, 5000, slice(0, 12), slice(5, 6)),
        (5000, 1, slice(5, 6), slice(0, 12)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_aspect_is_kept_on_black(
    tmp_path: Path, width: int, height: int, rows: slice, columns: slice, suffix: str
) -> None:
    save(tmp_path / f"a.{suffix}", Image.new("L", (width, height), 200))
    expected = np.zeros((SIZE, SIZE, 1), np.uint8)
    expected[rows, columns] = 200
    np.testing.assert_array_equal(only_image(read(tmp_path)), expected)


def test_scaling_down_averages(tmp_path: Path) -> None:
    save(tmp_path / "a.png", Image.fromarray(np.indices((240, 240)).sum(0).astype(np.uint8) % 2 * 255))
    assert abs(only_image(read(tmp_path)).astype(int) - 127.5).max() < 2


def test_a_mix_of_everything_is_one_array(tmp_path: Path) -> None:
    for width in (1, 11, 12, 13, 400):
        for suffix in ("png", "jpg", "gif", "bmp", "tiff", "webp"):
            save(tmp_path / suffix / f"{width}.{suffix}", noise(20, width))
    found = read(tmp_path)
    assert reasons(found) == {}
    assert found.images.shape == (30, SIZE, SIZE, 3)
    assert found.images.dtype == np.uint8


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    content = save(tmp_path / "a.png", noise())
    (tmp_path / "a.png").rename(tmp_path / "A.JPEG")
    write(tmp_path / "no suffix", content + b"x")
    assert read(tmp_path).name == ["A.JPEG", "no suffix"]


def test_grey_is_what_is_grey_in_every_pixel(tmp_path: Path) -> None:
    save(tmp_path / "a.png", noise(channels=1))
    save(tmp_path / "b.png", np.repeat(noise(channels=1, seed=1)[..., None], 3, axis=2))
    save(tmp_path / "c.jpg", noise(300, 300, channels=1))
    grey = read(tmp_path)
    assert grey.images.shape == (3, SIZE, SIZE, 1)
    np.testing.assert_array_equal(grey.images, read(tmp_path, channels=Channels.GREY).images)

    one_pixel = np.repeat(noise(channels=1)[..., None], 3, axis=2)
    one_pixel[5, 5, 2] ^= 1
    save(tmp_path / "d.png", one_pixel)
    colour = read(tmp_path)
    assert colour.images.shape == (4, SIZE, SIZE, 3)
    np.testing.assert_array_equal(colour.images[:3], np.repeat(grey.images[:], 3, axis=3))
    assert read(tmp_path, channels=Channels.GREY).images.shape == (4, SIZE, SIZE, 1)


def test_a_rejected_file_has_no_say_in_the_channels(tmp_path: Path) -> None:
    save(tmp_path / "a.png", flat("L", 9))
    write(tmp_path / "b.png", save(tmp_path / "b.png", noise(200, 200))[:-2000])
    assert read(tmp_path).images.shape == (1, SIZE, SIZE, 1)


def test_parts_agree_on_channels(tmp_path: Path) -> None:
    save(tmp_path / "train/a.png", noise())
    save(tmp_path / "test/a.png", noise(30, 20, channels=1))
    train, test = match_channels(*(read(tmp_path, part) for part in ("train", "test")))
    np.testing.assert_array_equal(test.images, read(tmp_path, "test", channels=Channels.RGB).images)
    np.testing.assert_array_equal(train.images, read(tmp_path, "train").images)
    assert match_channels(read(tmp_path, "test"), read(tmp_path, "none"))[0].images.shape == (1, SIZE, SIZE, 1)


@pytest.mark.parametrize("test_channels", [1, 3])
@pytest.mark.parametrize("channels", Channels)
def test_images_that_are_too_many_to_hold_are_the_same_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: Channels, test_channels: int
) -> None:
    for number in range(6):
        save(tmp_path / f"train/{number}.png", noise(channels=1, seed=number))
    save(tmp_path / "train/again.png", noise(channels=1, seed=1))
    save(tmp_path / "test/a.png", noise(channels=test_channels, seed=7))
    save(tmp_path / "test/b.png", noise(channels=1, seed=3))

    def bring() -> list[Photos]:
        parts = ("train", "test")
        scratch = [tmp_path / f"{part}.npy" for part in parts]
        found = [read_photos(tmp_path, part, SIZE, channels, file) for part, file in zip(parts, scratch, strict=True)]
        train, test = match_channels(*found)
        return [leave_out_copies(train, test)[0], test]

    held = bring()
    monkeypatch.setattr("few_labels.blocks.MOST_ROWS_WHOLE", 0)
    kept = bring()
    assert [len(part.name) for part in kept] == [5, 2]
    for one, other in zip(held, kept, strict=True):
        assert isinstance(one.images, np.ndarray)
        assert isinstance(other.images, Stored)
        assert other.images.shape == one.images.shape
        np.testing.assert_array_equal(other.images[:], one.images)
        np.testing.assert_array_equal(other.images[1:2], one.images[1:2])
        assert (other.name, other.folder_class) == (one.name, one.folder_class)


@pytest.mark.parametrize(("channels", "n_channels"), [(Channels.GREY, 1), (Channels.RGB, 3)])
def test_prepare_gives_what_the_pipeline_reads(tmp_path: Path, channels: Channels, n_channels: int) -> None:
    save(tmp_path / "a.jpg", noise(333, 500))
    save(tmp_path / "b.png", noise(33, 50, channels=4))
    found = read(tmp_path, channels=channels)
    for name, image in zip(found.name, found.images[:], strict=True):
        with Image.open(tmp_path / name) as picture:
            np.testing.assert_array_equal(prepare(picture, SIZE, n_channels), image)


def test_a_jpeg_is_not_decoded_whole(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", noise(800, 600))
    with Image.open(tmp_path / "a.jpg") as picture:
        prepare(picture, SIZE, 3)
        assert picture.size == (75, 100)


def test_class_folders(tmp_path: Path) -> None:
    names = ["dog/c.png", "cat/2019/a.png", "b.png", "cat/z.png"]
    for seed, name in enumerate(names):
        save(tmp_path / "train" / name, noise(seed=seed))
    save(tmp_path / "test/bird/a.png", noise(seed=9))
    train = read(tmp_path, "train")
    assert train.name == ["train/b.png", "train/cat/2019/a.png", "train/cat/z.png", "train/dog/c.png"]
    assert train.folder_class == [None, "cat", "cat", "dog"]
    np.testing.assert_array_equal(train.images[3], noise(seed=0))
    assert read(tmp_path, "test").folder_class == ["bird"]
    assert read(tmp_path, "").folder_class == ["test", "train", "train", "train", "train"]


def test_equal_files_are_one_image(tmp_path: Path) -> None:
    content = save(tmp_path / "train/cat/b.png", noise())
    write(tmp_path / "train/cat/a/deep.png", content)
    write(tmp_path / "train/z.png", content)
    save(tmp_path / "train/cat/same pixels.png", noise(), compress_level=0)
    found = read(tmp_path, "train")
    assert found.name == ["train/cat/a/deep.png", "train/cat/same pixels.png"]
    assert found.folder_class == ["cat", "cat"]
    assert reasons(found) == {
        "train/cat/b.png": "same bytes as train/cat/a/deep.png",
        "train/z.png": "same bytes as train/cat/a/deep.png",
    }
    assert len(found.images) == 2


def test_equal_files_in_different_classes_have_none(tmp_path: Path) -> None:
    content = save(tmp_path / "train/cat/a.png", noise())
    write(tmp_path / "train/cat/b.png", content)
    write(tmp_path / "train/dog/a.png", content)
    save(tmp_path / "train/dog/b.png", noise(seed=1))
    found = read(tmp_path, "train")
    assert found.name == ["train/cat/a.png", "train/dog/b.png"]
    assert found.folder_class == [None, "dog"]
    assert set(reasons(found)) == {"train/cat/b.png", "train/dog/a.png"}
    for reason in reasons(found).values():
        assert reason.startswith("same bytes as train/cat/a.png")
        assert "different class folders" in reason


def test_what_the_test_set_has_is_left_out_of_the_pool(tmp_path: Path) -> None:
    twin = save(tmp_path / "train/cat/a.png", noise())
    save(tmp_path / "train/dog/b.png", noise(seed=1))
    save(tmp_path / "test/cat/c.png", noise(seed=2))
    whole, test = read(tmp_path, "train"), read(tmp_path, "test")
    assert leave_out_copies(whole, test) == (whole, {})

    write(tmp_path / "train/cat/again.png", twin)
    write(tmp_path / "test/cat/d.png", twin)
    pool, copy_of = leave_out_copies(read(tmp_path, "train"), read(tmp_path, "test"))
    assert copy_of == {"train/cat/a.png": "test/cat/d.png"}
    assert (pool.name, pool.folder_class, pool.original) == (["train/dog/b.png"], ["dog"], {})
    np.testing.assert_array_equal(pool.images, whole.images[1:])
    assert reasons(pool) == {
        "train/cat/a.png": "same bytes as test/cat/d.png, which is there to grade by",
        "train/cat/again.png": "same bytes as train/cat/a.png",
    }


def test_links(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    save(tmp_path / "outside/secret.png", noise(seed=1))
    save(folder / "train/a.png", noise())
    save(folder / "raw/c.png", noise(seed=2))
    link = (folder / "train").joinpath
    link("b.png").symlink_to("a.png")
    link("c.png").symlink_to("../raw/c.png")
    link("out.png").symlink_to(tmp_path / "outside/secret.png")
    link("out").symlink_to(tmp_path / "outside")
    link("raw").symlink_to("../raw")
    link("up").symlink_to("..")
    link("loop").symlink_to("loop")
    link("nowhere").symlink_to("nobody")
    found = read(folder, "train")
    assert found.name == ["train/a.png", "train/c.png"]
    told = reasons(found)
    assert told["train/b.png"] == "same bytes as train/a.png"
    assert "leads out" in told["train/out.png"]
    assert "leads out" in told["train/out"]
    assert "link to a folder" in told["train/raw"]
    assert "link to a folder" in told["train/up"]
    assert "symbolic links" in told["train/loop"]
    assert told["train/nowhere"] == "No such file or directory"
    assert len(told) == 7


def test_a_folder_that_is_a_link_is_read_and_a_part_that_is_one_is_not(tmp_path: Path) -> None:
    save(tmp_path / "data/train/a.png", noise())
    save(tmp_path / "data/raw/b.png", noise(seed=1))
    (tmp_path / "data/train/b.png").symlink_to("../raw/b.png")
    (tmp_path / "alias").symlink_to("data")
    assert read(tmp_path / "alias", "train").name == ["train/a.png", "train/b.png"]
    (tmp_path / "data/test").symlink_to(tmp_path)
    assert "leads out" in reasons(read(tmp_path / "data", "test"))["test"]


def make_png(width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2) -> bytes:
    """Make a PNG whose header claims a size, and whose pixels are what the chunks say."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    framed = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, *chunks, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def zeros(n: int) -> bytes:
    """Compress zeros, a mebibyte at a time."""
    compressor = zlib.compressobj()
    return b"".join([compressor.compress(bytes(2**20)) for _ in range(n // 2**20)] + [compressor.flush()])


def test_what_is_no_photo_is_told_apart_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", noise())
    jpeg = save(tmp_path / "cut.jpg", noise(200, 200))
    write(tmp_path / "cut.jpg", jpeg[: len(jpeg) // 2])
    write(tmp_path / "cut.png", good[: len(good) // 2])
    write(tmp_path / "beginning.jpg", jpeg[:10])
    write(tmp_path / "empty.jpg", b"")
    write(tmp_path / "notes.txt", b"not an image\n")
    write(tmp_path / "random.jpg", random.Random(0).randbytes(5000))
    write(tmp_path / "page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    write(tmp_path / "bomb.png", make_png(20_000, 20_000))
    found = read(tmp_path)
    assert found.name == ["good.png"]
    np.testing.assert_array_equal(found.images[0], noise())
    told = reasons(found)
    assert len(told) == 8
    assert "truncated" in told["cut.jpg"]
    assert told["empty.jpg"] == "an empty file"
    assert told["beginning.jpg"] == "Truncated File Read"
    for name in ("notes.txt", "random.jpg", "page.eps"):
        assert told[name].startswith("not an image")
    assert "400000000 pixels" in told["bomb.png"]
    assert "178956970" in told["bomb.png"]
    assert list(found.rejected.image) == sorted(told)


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    much = zeros(400_000_000)
    # One bit a pixel: 110 kB. The last is a picture of 10 x 10 pixels, behind which there is more.
    write(tmp_path / "a.png", make_png(30_000, 30_000, b"IDAT" + zeros(30_000 * 3751), bits=1, colour=0))
    for name, chunk in {"b": b"zTXtk\0\0", "c": b"iCCPk\0\0", "d": b"iTXtk\0\1\0\0\0"}.items():
        write(tmp_path / f"{name}.png", make_png(10, 10, chunk + much, b"IDAT" + zeros(2**20)))
    write(tmp_path / "e.png", make_png(10, 10, b"IDAT" + much))
    told = run_apart(
        "found = read_photos(Path(sys.argv[1]), '', 28, Channels.AUTO)\n"
        "print(found.name, *found.rejected.reason, sep='\\n')\n"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))",
        tmp_path,
    ).splitlines()
    assert told[0] == "['e.png']"
    assert "900000000 pixels" in told[1]
    assert all("too large" in line for line in told[2:5])
    assert int(told[5].split()[1]) < 200_000


def test_a_lack_of_memory_rejects_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(picture: ImageFile.ImageFile) -> None:
        raise MemoryError

    save(tmp_path / "a.png", noise())
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(MemoryError, match=r"a\.png could not be decoded"):
        read(tmp_path)


def test_a_picture_that_pillow_only_warns_of_is_read_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(photos, "LARGE_PICTURE", 100)
    save(tmp_path / "a.png", noise())
    save(tmp_path / "b.png", noise(12, 17))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read(tmp_path)
    assert found.name == ["a.png"]
    assert "204 pixels" in reasons(found)["b.png"]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_no_damage_ends_the_run(tmp_path: Path, suffix: str) -> None:
    content = save(tmp_path / f"good.{suffix}", noise())
    chance = random.Random(0)
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(8):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        write(tmp_path / f"damaged {number}.{suffix}", bytes(damaged))
    found = read(tmp_path)
    assert f"good.{suffix}" in found.name
    assert len(found.name) + len(reasons(found)) == 61


def test_an_unknown_error_of_a_decoder_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = []

    def fail_once(picture: ImageFile.ImageFile) -> None:
        if picture.width not in failed:
            failed.append(picture.width)
            raise RuntimeError("two\nlines" if picture.width == 1 else "")

    save(tmp_path / "a.png", Image.new("L", (1, 1)))
    save(tmp_path / "b.png", Image.new("L", (2, 2)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail_once)
    assert reasons(read(tmp_path)) == {"a.png": "two lines", "b.png": "RuntimeError"}


def test_pipes_and_sockets_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png", noise())
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        # In a process of its own: one that opens the pipe waits for good.
        told = run_apart("print(*read_photos(Path(sys.argv[1]), '', 28, Channels.AUTO).rejected.reason)", tmp_path)
    assert told.count("pipe, a socket or a device") == 3


def test_what_may_not_be_read_is_told_from_what_is_damaged() -> None:
    with shared_folder() as folder:
        for seed, name in enumerate(("a.png", "b.png", "shut/c.png")):
            save(folder / name, noise(seed=seed))
        write(folder / "damaged.png", b"\x89PNG")
        for name in ("b.png", "shut"):
            (folder / name).chmod(0)
        with as_nobody():
            found = read(folder)
        (folder / "shut").chmod(0o700)
    assert found.name == ["a.png"]
    told = reasons(found)
    assert "damaged" in told.pop("damaged.png")
    assert told == {"b.png": "Permission denied", "shut": "Permission denied"}


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png", noise())
    (tmp_path / "shut").mkdir()
    scandir: Callable[..., Any] = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = read(tmp_path)
    assert found.name == ["a.png"]
    assert reasons(found) == {"shut": "Permission denied"}


def test_odd_names_are_names(tmp_path: Path) -> None:
    names = [
        " leading.png",
        "$(touch x).png",
        "'single'.png",
        '"double".png',
        "-rf.png",
        "`x`;&|.png",
        "a,b.png",
        "nan",
        "%s{0}.png",
        "back\\slash.png",
        "Straße/日本/👩‍🚀.png",
        "Screenshot 3.04\u202fPM.png",
    ]
    for seed, name in enumerate(names):
        save(tmp_path / name, noise(seed=seed), format="PNG")
    found = read(tmp_path)
    assert reasons(found) == {}
    assert found.name == sorted(names)
    for name, image in zip(found.name, found.images[:], strict=True):
        np.testing.assert_array_equal(image, noise(seed=names.index(name)))


def test_names_that_garble_a_line_are_rejected(tmp_path: Path) -> None:
    content = save(tmp_path / "good.png", noise())
    for number, name in enumerate([b"new\nline.png", b"\x1b[31mred.png", b"not utf8 \xff.png", b"folder\r/a.png"]):
        file = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))  # noqa: PTH118
        write(file, content + bytes([number]))
    (tmp_path / "u\u2028.png").symlink_to("new\nline")
    found = read(tmp_path)
    assert found.name == ["good.png"]
    told = reasons(found)
    assert list(told) == [
        "\\x1b[31mred.png",
        "folder\\r/a.png",
        "new\\nline.png",
        "not utf8 \\udcff.png",
        "u\\u2028.png",
    ]
    assert all("control characters" in reason for reason in told.values())
    found.rejected.to_csv(tmp_path / "rejected.csv", encoding="utf-8")


def test_printable_leaves_letters_alone() -> None:
    assert printable("Straße 日本 \\ '\"\t\x9b") == "Straße 日本 \\ '\"\\t\\x9b"


def test_clutter_is_skipped_in_silence(tmp_path: Path) -> None:
    content = save(tmp_path / "cat/a.png", noise())
    for number, name in enumerate(
        [".hidden.png", "cat/._a.png", ".git/b.png", "cat/.cache/deep/c.png", "cat/Thumbs.db"]
    ):
        write(tmp_path / name, content + bytes([number]))
    (tmp_path / "cat/.link").symlink_to("/")
    found = read(tmp_path)
    assert found.name == ["cat/a.png"]
    assert reasons(found) == {}


def test_the_order_is_not_that_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = save(tmp_path / "m/same.png", noise())
    for seed, name in enumerate(["b.png", "a/z.png", "a.png", "c/y/x.png", "B.png"]):
        save(tmp_path / name, noise(seed=seed + 1))
        write(tmp_path / f"twin of {name.replace('/', ' ')}", content)
    walk = os.walk

    def shuffled(*arguments: Any, **options: Any) -> Any:
        for parent, subfolders, files in walk(*arguments, **options):
            random.shuffle(subfolders)
            random.shuffle(files)
            yield parent, subfolders, files

    first = read(tmp_path)
    assert first.name == ["B.png", "a.png", "a/z.png", "b.png", "c/y/x.png", "m/same.png"]
    monkeypatch.setattr(os, "walk", shuffled)
    for _ in range(5):
        again = read(tmp_path)
        assert again.name == first.name
        np.testing.assert_array_equal(again.images, first.images)
        assert again.rejected.equals(first.rejected)


def test_any_number_of_threads_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(24):
        # The first take longest, so that threads finish in another order than they start in.
        save(tmp_path / f"{seed:02}.jpg", noise(300 - 10 * seed, 200, seed=seed))
        write(tmp_path / f"twin {seed % 3} {seed:02}.jpg", (tmp_path / f"{seed % 3:02}.jpg").read_bytes())
        write(tmp_path / f"{seed:02} junk", b"junk")
    results = []
    for n_threads in (1, 2, 13):
        monkeypatch.setattr(photos, "N_THREADS", n_threads)
        results.append(read(tmp_path))
    assert len(results[0].name) == 24
    for other in results[1:]:
        assert other.name == results[0].name
        np.testing.assert_array_equal(other.images, results[0].images)
        assert other.rejected.equals(results[0].rejected)


@pytest.mark.parametrize("part", ["", "train"])
@pytest.mark.parametrize(("channels", "n_channels"), [(Channels.GREY, 1), (Channels.RGB, 3), (Channels.AUTO, 1)])
def test_nothing_is_left(tmp_path: Path, part: str, channels: Channels, n_channels: int) -> None:
    write(tmp_path / "train/junk", b"junk")
    found = read(tmp_path, part, channels=channels)
    assert found.images.shape == (0, SIZE, SIZE, n_channels)
    assert found.images.dtype == np.uint8
    assert (found.name, found.folder_class) == ([], [])
    assert list(reasons(found)) == ["train/junk"]


def test_a_missing_part_is_empty_and_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    found = read(tmp_path, "test")
    assert found.images.shape == (0, SIZE, SIZE, 1)
    assert reasons(found) == {}
    with pytest.raises(InputError, match="nowhere: not a folder"):
        read(tmp_path / "nowhere")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_large_photos_take_little_memory(tmp_path: Path) -> None:
    content = save(tmp_path / "00.jpg", noise(3000, 4000), quality=85)
    for number in range(1, 24):
        # What stands behind the end of a picture makes other bytes of it, not another picture.
        write(tmp_path / f"{number:02}.jpg", content + bytes([number]))
    # The peak is not taken from getrusage, which gives a process that of its parent where that is higher.
    peak = run_apart(
        "assert len(read_photos(Path(sys.argv[1]), '', 28, Channels.AUTO).name) == 24\n"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))",
        tmp_path,
    )
    assert int(peak.split()[1]) < 600_000
