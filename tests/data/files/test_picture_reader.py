# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImaged
from PIL import Image, ImageOps

from monai_ext.data import AtomicPictureWriter
from monai_ext.data.files.picture_reader import MaskReader, PictureReader, check_picture_pair, find_pictures, is_picture

SIZE = (40, 60)  # rows, columns


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def disc(radius: float = 12, centre: tuple[float, float] = (20, 25)) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.hypot(y - centre[0], x - centre[1]) < radius


def save(path, pixels, mode=None, **options) -> str:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return str(path)


def read_image(path) -> np.ndarray:
    loaded = LoadImaged(keys="image", reader=PictureReader)({"image": path})["image"]
    assert loaded.dtype.is_floating_point  # LoadImaged's own dtype
    return loaded.numpy()


def read_mask(paths, coding="classes", num_classes=2) -> np.ndarray:
    return LoadImaged(keys="label", reader=MaskReader(coding, num_classes))({"label": paths})["label"].numpy()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG", ".TIF"])
def test_lossless_formats_give_every_pixel_where_it_was(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", colours())
    assert is_picture(path)
    np.testing.assert_array_equal(read_image(path), colours())


def test_jpeg(tmp_path):
    smooth = np.stack(np.broadcast_arrays(*np.ogrid[: SIZE[0], : SIZE[1]], np.full(SIZE, 90)), -1).astype(np.uint8)
    np.testing.assert_allclose(read_image(save(tmp_path / "a.jpeg", smooth, quality=95)), smooth, atol=6)


def test_other_colour_modes_become_rgb(tmp_path):
    grey = colours()[..., 0]
    three = np.repeat(grey[..., None], 3, -1)
    np.testing.assert_array_equal(read_image(save(tmp_path / "l.png", grey)), three)
    np.testing.assert_array_equal(read_image(save(tmp_path / "la.png", grey, "LA")), three)
    np.testing.assert_array_equal(read_image(save(tmp_path / "1.png", disc())), 255 * disc()[..., None] * np.ones(3))
    np.testing.assert_array_equal(read_image(save(tmp_path / "rgba.png", colours(), "RGBA")), colours())
    few = colours() // 128 * 200
    palette = Image.fromarray(few).quantize(16)
    assert palette.mode == "P"
    np.testing.assert_array_equal(read_image(save(tmp_path / "p.png", palette)), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(read_image(str(tmp_path / "p.png")), few)


def test_pictures_that_would_be_misread_are_refused(tmp_path):
    rgba = np.dstack([colours(), np.full(SIZE, 255, np.uint8)])
    rgba[3, 4, 3] = 0
    with pytest.raises(ValueError, match=r"rgba\.png: has transparent pixels.*without an alpha"):
        read_image(save(tmp_path / "rgba.png", rgba))
    palette = Image.fromarray(colours() // 128 * 200).quantize(16)
    with pytest.raises(ValueError, match=r"p\.png: has transparent pixels"):
        read_image(save(tmp_path / "p.png", palette, transparency=0))
    for name in ("16.png", "16.tif"):
        with pytest.raises(
            ValueError, match=rf"{name}: 16 bits a channel, expected 8. Convert it to 8 bits with the window"
        ):
            read_image(save(tmp_path / name, colours()[..., 0].astype(np.uint16) * 200))
    with pytest.raises(ValueError, match=r"float\.tif: 32 bits a channel, expected 8"):
        read_image(save(tmp_path / "float.tif", colours()[..., 0].astype(np.float32)))
    pages = [Image.fromarray(colours(i)) for i in range(3)]
    with pytest.raises(ValueError, match=r"pages\.tif: 3 pages, expected one image"):
        read_image(save(tmp_path / "pages.tif", pages[0], save_all=True, append_images=pages[1:]))
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        read_image(str(tmp_path / "none.png"))
    with pytest.raises(ValueError, match="one file per image expected, got 2"):
        read_image([save(tmp_path / "a.png", colours()), save(tmp_path / "b.png", colours())])


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("jpeg", {}), ("bmp", {}), ("tiff", {}), ("tiff", {"compression": "tiff_lzw"})],
    ids=["png", "jpeg", "bmp", "tiff", "tiff lzw"],
)
def test_a_file_cut_off_anywhere_is_refused_by_name(tmp_path, suffix, options):
    buffer = io.BytesIO()
    Image.fromarray(colours()).save(buffer, suffix, **options)
    whole = buffer.getvalue()
    path = tmp_path / f"a.{suffix}"
    lengths = [0, 1, 5, 9, 20, 60, 200, len(whole) // 3, len(whole) // 2, len(whole) - 300]
    for length in lengths:
        path.write_bytes(whole[:length])
        for read in (read_image, read_mask):
            with pytest.raises(ValueError, match=rf"a\.{suffix}: cannot be read .*damaged, cut off"):
                read(str(path))


def flip_the_middle(content: bytearray) -> None:
    content[len(content) // 2] ^= 0xFF


def point_behind_the_end(content: bytearray) -> None:
    """The second page of a TIFF, a page without any tag."""
    page = int.from_bytes(content[4:8], "little")
    following = page + 2 + 12 * int.from_bytes(content[page : page + 2], "little")
    content[following : following + 4] = len(content).to_bytes(4, "little")
    content += bytes(6)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("a.png", flip_the_middle, r"a\.png: cannot be read"),
        ("a.tif", point_behind_the_end, r"a\.tif: cannot be read \(Missing dimensions\)"),
    ],
)
def test_damage_inside_a_file_is_found(tmp_path, name, damage, message):
    path = tmp_path / name
    save(path, colours())
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_image(str(path))


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("mode", [None, "RGB", "RGBA", "LA", "1", "P"])
def test_black_and_white_masks_in_every_mode(tmp_path, white, mode):
    if mode == "1" and white == 1:
        pixels: object = disc()
    else:
        pixels = np.where(disc(), white, 0).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", pixels, mode)), disc())


def test_palettes_of_masks(tmp_path):
    inverted, coloured = (Image.fromarray(np.where(disc(), n, 1 - n).astype(np.uint8)) for n in (0, 1))
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    coloured.putpalette([0, 0, 0, 128, 0, 0])
    np.testing.assert_array_equal(read_mask(save(tmp_path / "i.png", inverted)), disc())
    np.testing.assert_array_equal(read_mask(save(tmp_path / "c.png", coloured)), disc())
    np.testing.assert_array_equal(read_mask(save(tmp_path / "c.png", coloured), num_classes=3), disc())


def test_masks_of_16_bits_and_of_an_empty_picture(tmp_path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "w.png", disc().astype(np.uint16) * 65535)), disc())
    np.testing.assert_array_equal(read_mask(save(tmp_path / "c.png", disc().astype(np.uint16))), disc())
    assert not read_mask(save(tmp_path / "empty.png", np.zeros(SIZE, np.uint8))).any()
    assert read_mask(save(tmp_path / "full.png", np.full(SIZE, 255, np.uint8))).all()


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_grey_that_jpeg_leaves_along_outlines(tmp_path, quality):
    path = save(tmp_path / "m.jpg", np.where(disc(), 255, 0).astype(np.uint8), quality=quality)
    assert len(np.unique(np.asarray(Image.open(path)))) > 10
    assert (read_mask(path) != disc()).sum() <= 10  # of a circumference of 75 pixels


def test_smoothed_outlines(tmp_path):
    large = Image.fromarray(np.where(disc(), 255, 0).astype(np.uint8))
    half = large.resize((SIZE[1] // 2, SIZE[0] // 2), Image.Resampling.BOX)
    assert set(np.unique(np.asarray(half))) - {0, 255}
    half.save(tmp_path / "half.png")
    np.testing.assert_array_equal(read_mask(str(tmp_path / "half.png")), np.asarray(half) > 127)


def with_values(*values: int) -> np.ndarray:
    """Squares of these values on black, far from each other."""
    pixels = np.zeros((60, 80 * len(values)), np.uint8)
    for i, value in enumerate(values):
        pixels[4:56, 80 * i + 4 : 80 * i + 56] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (with_values(2), r"\[2\]"),
        (with_values(1, 2, 3), r"\[1, 2, 3\]"),
        (with_values(1, 255), r"\[1\]"),  # a class beside an "ignore" value
        (with_values(128, 255), r"\[128\]"),
        (with_values(100), r"\[100\]"),
        (with_values(200, 255), r"\[200\]"),
    ],
)
def test_values_that_are_neither_classes_nor_black_and_white(tmp_path, pixels, found):
    with pytest.raises(ValueError, match=rf"m\.png: mask values {found}, expected 0 and 255, or 0 and 1\."):
        read_mask(save(tmp_path / "m.png", pixels))


def ring(value: int, width: int, white: int = 255) -> np.ndarray:
    """A white disc with a class of its own around it."""
    pixels = np.where(disc(8), white, 0)
    pixels[disc(8 + width) & ~disc(8)] = value
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
@pytest.mark.parametrize("value", [1, 40, 128, 200, 254])
def test_a_class_beside_an_outline_is_no_grey_of_compression(tmp_path, value, width):
    """A border or an "ignore" class of a file without loss, which JPEG's tolerance would swallow."""
    for name, mode in (("m.png", None), ("m.png", "RGB"), ("m.tif", None), ("m.bmp", None)):
        with pytest.raises(ValueError, match=rf"mask values \[{value}\], expected 0 and 255, or 0 and 1"):
            read_mask(save(tmp_path / name, ring(value, width), mode))


def test_many_classes_of_which_one_is_white(tmp_path):
    """As Pascal VOC has them: up to 20 classes, each within a border of 255."""
    for first, step in ((1, 1), (5, 12)):
        pixels = np.zeros((60, 400), np.uint8)
        for k in range(20):
            pixels[10:50, 20 * k + 2 : 20 * k + 18] = 255
            pixels[13:47, 20 * k + 5 : 20 * k + 15] = first + step * k
        with pytest.raises(ValueError, match=r"mask values \[\d+, .*expected 0 and 255"):
            read_mask(save(tmp_path / "m.png", pixels))


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_a_jpeg_saved_again_without_loss(tmp_path, quality):
    """As collections of polyps are passed on."""
    jpeg = save(tmp_path / "m.jpg", np.where(disc(), 255, 0).astype(np.uint8), quality=quality)
    again = save(tmp_path / "m.png", np.asarray(Image.open(jpeg)))
    np.testing.assert_array_equal(read_mask(again), read_mask(jpeg))


@pytest.mark.parametrize("factor", [2, 4])
def test_an_enlarged_mask(tmp_path, factor):
    large = Image.fromarray(np.where(disc(), 255, 0).astype(np.uint8))
    large = large.resize((SIZE[1] * factor, SIZE[0] * factor), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", large)), np.asarray(large) > 127)


def test_numbers_in_a_jpeg_are_refused(tmp_path):
    path = save(tmp_path / "m.jpg", with_values(1, 2, 3), quality=95)
    for coding, classes in (("classes", 4), ("classes", 256), ("instances", 2)):
        with pytest.raises(ValueError, match=r"m\.jpg: numbers of (classes|objects) in a JPEG, which changes them"):
            read_mask(path, coding, classes)
    with pytest.raises(ValueError, match=r"m\.jpg: mask values \[1, 2, 3, .*expected 0 and 255"):
        read_mask(path)
    assert not read_mask(save(tmp_path / "n.jpg", with_values(0)), num_classes=4).any()


def test_real_numbers_of_a_tiff(tmp_path):
    values = np.where(disc(), 2.0, 0).astype(np.float32)
    values[0, 0] = 0.9999999
    expected = np.where(disc(), 2, 0)
    expected[0, 0] = 1
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.tif", values), num_classes=3), expected)
    for value, shown in ((0.5, r"0\.5"), (np.nan, "NaN"), (np.inf, "inf")):
        values[3, 4] = value
        for coding in ("classes", "instances"):
            with pytest.raises(
                ValueError, match=rf"m\.tif: label values {shown} \(1 of 2400\), expected whole numbers"
            ):
                read_mask(save(tmp_path / "m.tif", values), coding, 3)


def test_an_object_with_a_negative_number(tmp_path):
    with pytest.raises(ValueError, match=r"mask values \[-1\]"):
        read_mask(save(tmp_path / "m.tif", np.where(disc(), -1, 0).astype(np.int32)), "instances")


def test_a_mask_of_several_pages(tmp_path):
    pages = [Image.fromarray(with_values(k)) for k in (255, 0)]
    with pytest.raises(ValueError, match=r"m\.tif: 2 pages, expected one"):
        read_mask(save(tmp_path / "m.tif", pages[0], save_all=True, append_images=pages[1:]))


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_masks_and_labels_fit_as_viewers_show_them(tmp_path, orientation):
    """The mask is drawn on what a viewer shows; the label is written for it, and read back, in the same place."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[5:15, 8:40] = 250, 10, 10
    image = save(tmp_path / "a.jpg", pixels, quality=95, subsampling=0, exif=exif(orientation))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(image)))[..., 0] > 128
    mask = save(tmp_path / "a.png", shown)
    check_picture_pair({"image": image, "label": mask, "case_id": "a"})
    found = read_image(image)
    np.testing.assert_array_equal(found[..., 0] > 128, shown)
    np.testing.assert_array_equal(read_mask(mask), shown)
    writer = AtomicPictureWriter(output_dtype=np.uint8)
    writer.set_data_array((found[..., 0] > 128)[None], channel_dim=0)
    writer.set_metadata(PictureReader().get_data((image,))[1], resample=False)
    writer.write(tmp_path / "label.png")
    label = Image.open(tmp_path / "label.png")
    assert label.getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(np.asarray(label), shown)
    # a mask with an orientation of its own is turned by that
    stored = save(tmp_path / "stored.png", pixels[..., 0] > 128, exif=exif(orientation))
    np.testing.assert_array_equal(read_mask(stored), shown)
    check_picture_pair({"image": image, "label": stored, "case_id": "a"})


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_that_was_not_turned_is_told(tmp_path, orientation):
    image = save(tmp_path / "a.jpg", colours(), exif=exif(orientation))
    mask = save(tmp_path / "m.png", disc())
    with pytest.raises(ValueError, match=r"m\.png: 60x40 pixels, as a\.jpg is stored; its EXIF .* turns that to 40x60"):
        check_picture_pair({"image": image, "label": mask, "case_id": "a"})


def test_a_turn_by_180_degrees_is_said(tmp_path, caplog):
    image, mask = save(tmp_path / "a.jpg", colours(), exif=exif(3)), save(tmp_path / "m.png", disc())
    check_picture_pair({"image": image, "label": mask, "case_id": "a"})
    assert "are turned as their EXIF orientation says" in caplog.text


def test_notes_of_macos_are_no_pictures(tmp_path):
    save(tmp_path / "a.png", colours())
    for name in ("._a.png", "._b.jpg", ".hidden.png"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7" + bytes(300))
    assert [case["image"] for case in find_pictures(tmp_path)] == [str(tmp_path / "a.png")]
    with pytest.raises(ValueError, match=r"\._a\.png: is a note of macOS about the file beside it, no image"):
        read_image(str(tmp_path / "._a.png"))


def test_several_classes(tmp_path):
    classes = with_values(1, 2, 3)
    path = save(tmp_path / "m.png", classes)
    np.testing.assert_array_equal(read_mask(path, num_classes=4), classes)
    with pytest.raises(ValueError, match=r"mask values \[3\], expected 0 to 2"):
        read_mask(path, num_classes=3)
    with pytest.raises(ValueError, match=r"mask values \[255\], expected 0 to 2"):
        read_mask(save(tmp_path / "n.png", with_values(1, 255)), num_classes=3)
    negative = Image.fromarray(np.where(disc(), -1, 0).astype(np.int32))
    with pytest.raises(ValueError, match=r"mask values \[-1\], expected 0 to 2"):
        read_mask(save(tmp_path / "n.tif", negative), num_classes=3)


def test_a_colour_mask_or_a_transparent_one_is_no_grey_one(tmp_path):
    coloured = np.zeros((*SIZE, 3), np.uint8)
    coloured[disc()] = (255, 0, 0)
    with pytest.raises(ValueError, match=r"m\.png: a coloured mask, expected grey values"):
        read_mask(save(tmp_path / "m.png", coloured))
    clear = np.dstack([np.full(SIZE, 255, np.uint8), np.where(disc(), 255, 0).astype(np.uint8)])
    with pytest.raises(ValueError, match=r"m\.png: has transparent pixels"):
        read_mask(save(tmp_path / "m.png", Image.fromarray(clear, "LA")))


@pytest.mark.parametrize("suffix", ["bmp", "png"])
def test_objects_with_numbers_are_of_one_class(tmp_path, suffix):
    path = save(tmp_path / f"m.{suffix}", with_values(1, 2, 7, 254))
    np.testing.assert_array_equal(read_mask(path, "instances"), with_values(1, 1, 1, 1))
    many = save(tmp_path / "many.png", with_values(1).astype(np.uint16) * 700)
    np.testing.assert_array_equal(read_mask(many, "instances"), with_values(1))


def neopolyp(*colours: tuple[int, int, int]) -> np.ndarray:
    places = with_values(*range(1, len(colours) + 1))
    return np.array([(0, 0, 0), *colours], np.uint8)[places]


@pytest.mark.parametrize("options", [{"suffix": "png"}, {"suffix": "jpeg"}, {"suffix": "jpeg", "quality": 60}], ids=str)
def test_polyps_by_colour(tmp_path, options):
    options = dict(options)
    path = save(tmp_path / f"m.{options.pop('suffix')}", neopolyp((255, 0, 0), (0, 255, 0)), **options)
    limit = 0 if path.endswith("png") else 60  # of two circumferences of 208 pixels
    assert (read_mask(path, "neopolyp", 3) != with_values(2, 1)).sum() <= limit
    assert (read_mask(path, "neopolyp", 2) != with_values(1, 1)).sum() <= limit


def test_outlines_of_polyps_that_were_smoothed(tmp_path):
    """Mixtures of black, red and green lie beside outlines; another colour there is a class of its own."""
    large = Image.fromarray(neopolyp((255, 0, 0), (0, 255, 0)))
    half = large.resize((large.width // 2, large.height // 2), Image.Resampling.BILINEAR)
    expected = np.asarray(half.getchannel(0)) > 127
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", half), "neopolyp", 3) == 2, expected)
    bordered = neopolyp((255, 0, 0))
    bordered[3, 4:56] = 0, 0, 255
    with pytest.raises(ValueError, match=r"mask colours \[\[0, 0, 255\]\], expected black, red and green"):
        read_mask(save(tmp_path / "m.png", bordered), "neopolyp", 3)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 255), (255, 255, 0), (90, 90, 90), (0, 100, 0)])
def test_a_colour_of_no_kind_of_polyp(tmp_path, colour):
    found = rf"\[\[{', '.join(map(str, colour))}\]\]"
    with pytest.raises(ValueError, match=rf"m\.png: mask colours {found}, expected black, red and green"):
        read_mask(save(tmp_path / "m.png", neopolyp((255, 0, 0), colour)), "neopolyp", 3)


def test_masks_of_one_picture_are_united(tmp_path):
    first, second = disc(8, (15, 15)), disc(9, (25, 40))
    paths = [save(tmp_path / f"{i}.png", np.where(m, 255, 0).astype(np.uint8)) for i, m in enumerate((first, second))]
    np.testing.assert_array_equal(read_mask(paths), first | second)
    np.testing.assert_array_equal(read_mask(paths[::-1]), first | second)
    paths.append(save(tmp_path / "2.png", with_values(1)))
    with pytest.raises(ValueError, match=r"2\.png: 80x60 pixels, but .*0\.png has 60x40"):
        read_mask(paths)


def outlines(*polygons: str) -> str:
    regions = "".join(f"<Region><Vertices>{p}</Vertices></Region>" for p in polygons)
    return f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"


def vertices(*points: tuple[float, float]) -> str:
    return "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)


def test_outlines_are_drawn_on_the_grid_of_their_image(tmp_path):
    image = save(tmp_path / "a.tif", colours())
    square, triangle = ((10, 5), (20, 5), (20, 15), (10, 15)), ((30, 20), (50, 20), (40, 39.9))
    outside = ((-9, 30.4), (3, 30.4), (3, 90), (-9, 90))
    label = f"{tmp_path / 'a.XML'}::{image}"
    (tmp_path / "a.XML").write_text(
        outlines(vertices(*square), vertices(*triangle), vertices(*outside), vertices((1, 1), (2, 2)))
    )
    mask = read_mask(label)
    assert mask.shape == SIZE
    expected = np.zeros(SIZE, bool)
    expected[5:15, 10:20] = True
    expected[30:, :3] = True
    for row in range(20, 40):  # pixels whose centres lie between the sides
        reach = 10 * (1 - (row + 0.5 - 20) / 19.9)
        expected[row] |= np.abs(np.arange(SIZE[1]) + 0.5 - 40) < reach
    np.testing.assert_array_equal(mask, expected)
    check_picture_pair({"image": image, "label": label, "case_id": "a"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<Annotations><Annot", r"a\.xml: no valid XML"),
        ("", r"a\.xml: no valid XML"),
        ("<annotation><object/></annotation>", r"a\.xml: no outlines, expected ImageScope's"),
        (outlines('<Vertex X="1"/>'), r"a\.xml: a vertex without the numbers X and Y"),
        (outlines('<Vertex X="1" Y="left"/>'), r"a\.xml: a vertex without the numbers X and Y"),
    ],
)
def test_bad_outlines(tmp_path, content, message):
    image = save(tmp_path / "a.tif", colours())
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_mask(f"{tmp_path / 'a.xml'}::{image}")


def test_missing_outlines(tmp_path):
    image = save(tmp_path / "a.tif", colours())
    label = f"{tmp_path / 'a.xml'}::{image}"
    with pytest.raises(FileNotFoundError, match=r"a\.xml: no such file"):
        read_mask(label)
    with pytest.raises(FileNotFoundError, match=r"a\.xml: no such file"):
        check_picture_pair({"image": image, "label": label, "case_id": "a"})


def test_pairs_of_one_size(tmp_path):
    image = save(tmp_path / "a.png", colours())
    same, other = save(tmp_path / "b.png", disc()), save(tmp_path / "c.png", with_values(1))
    check_picture_pair({"image": image, "label": same, "case_id": "a"})
    for label in (other, [same, other]):
        with pytest.raises(ValueError, match=r"c\.png: 80x60 pixels, but a\.png has 60x40.*leave case a out with --ex"):
            check_picture_pair({"image": image, "label": label, "case_id": "a"})


def test_find_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no picture found\. Expected files ending in \.png, \.jpg"):
        find_pictures(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_pictures(tmp_path / "none")
    paths = [save(tmp_path / name, colours()) for name in ("a.png", "b (1).JPG")]
    (tmp_path / "notes.txt").touch()
    assert find_pictures(tmp_path) == [{"image": path, "case_id": name} for path, name in zip(paths, ("a", "b (1)"))]
    assert find_pictures(paths[0]) == [{"image": paths[0], "case_id": "a"}]


def test_bad_arguments():
    with pytest.raises(ValueError, match="coding must be one of classes, instances, neopolyp, got 'colours'"):
        MaskReader("colours")
    with pytest.raises(ValueError, match="no mask file given"):
        MaskReader().get_data(())


@pytest.mark.parametrize(
    ("name", "start", "what"),
    [
        ("a.webp", b"RIFF....WEBP", "a WebP picture by its content"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n", "a JPEG 2000 picture by its content"),
        ("a.jpg", b"\0\0\0\x18ftypheic", "an HEIF or AVIF picture by its content"),  # a telephone's, renamed
        ("a.png", bytes(128) + b"DICM", "a DICOM file by its content"),
        ("a.svs", b"II*\0", "a slide scanner's picture"),
        ("a.ppm", b"P6 2 2 255 ", "a Netpbm picture"),
    ],
)
def test_pictures_of_other_formats_are_cases_that_say_what_they_are(tmp_path, name, start, what):
    (tmp_path / name).write_bytes(start)
    assert [Path(case["image"]).name for case in find_pictures(tmp_path)] == [name]
    with pytest.raises(ValueError, match=f"{name}: is {what}") as caught:
        PictureReader().get_data((tmp_path / name,))
    assert "damaged" not in str(caught.value)
