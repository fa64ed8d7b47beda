"""The one reader for pictures: agents, coordinators, simulations and exported models all see the same pixels.

A model that was trained on what one reader makes of a file and is used on what another makes of it is wrong without
a word. So whatever a camera, a phone or a drawing program writes becomes eight bits a channel here: more bits are
scaled by their type, what is transparent is laid on white, and a phone's photograph is turned upright. No torch.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError, OperatorError
from fedlp_edge.learning.foreign_code import one_line

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".pnm", ".pbm",
    ".jpe", ".jfif", ".mpo", ".apng", ".avif", ".jp2", ".tga", ".dib",
)  # fmt: skip
"""Of the files in a folder that are taken for pictures, in lower case; what is in them is for their content to say."""

MAX_PIXELS = 100_000_000
"""Decoded at once: 300 MB in colour. A larger JPEG is read at a half, a quarter or an eighth of its size."""

_NEED_PILLOW = 'reading pictures needs Pillow: pip install "fedlp-edge[vision]"'
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_BLOCK = 1 << 20  # values of more than eight bits that are scaled together
_TORN_TAIL = 64  # zeros at the end of a compressed picture; none ends in so many
_HALF_A_STEP = 0.5 / 255
_KNOWN = (
    (b"version https://git-lfs", "is a pointer of Git LFS: fetch the file itself with git lfs pull"),
    (b"<", "is a web page or a drawing (HTML, SVG), not a picture"),
    ((b"II*\0", b"MM\0*"), "is a kind of TIFF that is not read: save it with one or three channels of 8 or 16 bits"),
    ((b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF"), "is damaged"),
)  # what Pillow cannot identify, by how it begins
_ON_ITS_SIDE = (5, 6, 7, 8)  # orientations in which width and height change places


class PictureError(DataError):
    """One picture that cannot be read.

    Attributes:
        file: which.
        reason: what is wrong with it, to follow the name of the file.
    """

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"cannot read {shown(file)}: it {reason}")
        self.file = file
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as a model takes it.

    Attributes:
        pixels: [channels, height, width] unsigned bytes.
        stored_size: width and height before it was resized, upright.
        several_frames: whether the file holds more frames or pages; the first is used.
    """

    pixels: npt.NDArray[np.uint8]
    stored_size: tuple[int, int]
    several_frames: bool


def require_pillow() -> None:
    """Says what to install where Pillow is missing.

    Raises:
        OperatorError: it is.
    """
    try:
        import PIL.Image  # noqa: F401, PLC0415  # an extra
    except ImportError:
        raise OperatorError(_NEED_PILLOW) from None
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what is wrong with a file is said by an error, once


def read_picture(file: Path, channels: int, size: tuple[int, int]) -> Picture:
    """Reads one picture, resized without regard to its proportions.

    Args:
        file: of any kind that Pillow reads; its name does not matter.
        channels: 1 for grey, 3 for RGB.
        size: height and width, pixels.

    Raises:
        PictureError: it is missing, damaged, cut short, no picture, or too large.
        OperatorError: Pillow is not installed.
    """
    require_pillow()
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  # an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on sizes and metadata; what matters is said by an error
        try:
            with Image.open(file) as image:
                return _read(file, image, channels, size)
        except PictureError:
            raise
        except UnidentifiedImageError:
            raise PictureError(file, _what_it_is(file)) from None
        except Image.DecompressionBombError:
            raise PictureError(file, "has more pixels than a picture that can be trusted") from None
        except MemoryError:
            raise PictureError(file, "takes more memory than there is") from None
        except OSError as error:
            raise PictureError(file, _why(error)) from None
        except Exception as error:  # decoders raise what they like on damaged files: struct.error, SyntaxError ...
            raise PictureError(file, f"is damaged ({one_line(error)})") from None


def shown(file: Path | str) -> str:
    """A file's name on one line, printable whatever bytes it is made of."""
    text = str(file).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _read(file: Path, image: Image.Image, channels: int, size: tuple[int, int]) -> Picture:
    height, width = size
    stored = image.size
    # MPO is what phones call a JPEG with a preview or a depth map behind it: one picture to whoever took it.
    several = image.format != "MPO" and _has_several_frames(image)
    # Twice the size leaves enough for a smooth reduction. Both ways round, as the picture may have to be turned.
    enough = 2 * max(height, width)
    image.draft("L" if channels == 1 else "RGB", (enough, enough))
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(file, f"has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
    image.load()
    if image.format in ("JPEG", "MPO", "WEBP") and _is_torn(file):
        raise PictureError(file, "is cut short: its end was never written")
    flat = _eight_bits(file, image, channels)
    orientation = _orientation(image)
    if orientation in _turns():
        flat = flat.transpose(_turns()[orientation])
        stored = stored[::-1] if orientation in _ON_ITS_SIDE else stored
    pixels = np.asarray(flat.resize((width, height)))
    return Picture(
        pixels=pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1)),
        stored_size=stored,
        several_frames=several,
    )


def _has_several_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # what follows the first frame is damaged, which does not matter
        return True


def _orientation(image: Image.Image) -> Any:
    """How the camera was held; ``ImageOps.exif_transpose`` fails where some other tag is damaged."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged EXIF block says nothing, and the pixels are still good
        return None


def _turns() -> dict[Any, Image.Transpose]:
    """What brings a picture upright, by orientation."""
    from PIL.Image import Transpose  # noqa: PLC0415  # an extra

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


def _eight_bits(file: Path, image: Image.Image, channels: int) -> Image.Image:
    """The picture as ``L`` or ``RGB``."""
    wanted = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _scaled(file, image).convert(wanted)
    if image.mode == "LAB":
        return _from_lab(image).convert(wanted)
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return _on_white(image).convert(wanted)
    if image.mode == "P":
        return image.convert("RGB").convert(wanted)
    return image.convert(wanted)


def _on_white(image: Image.Image) -> Image.Image:
    """What lies below a transparent pixel is whatever a program left there; paper is what the painter saw."""
    from PIL import Image  # noqa: PLC0415  # an extra

    layer = image.convert("RGBA")
    paper = Image.new("RGB", layer.size, "white")
    paper.paste(layer, mask=layer.getchannel("A"))
    return paper


def _scaled(file: Path, image: Image.Image) -> Image.Image:
    """More than eight bits a value, brought to eight by what the type can hold, never by what this picture holds."""
    from PIL import Image  # noqa: PLC0415  # an extra

    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "F":
        lowest, highest, kind = 0.0, 1.0, "floating point from 0 to 1"
    elif tags.get(_BITS_PER_SAMPLE) in (12, (12,)):
        lowest, highest, kind = 0, 4095, "12 bits"
    else:  # Pillow also gives 16 bits as 32, depending on the format
        lowest, highest, kind = 0, 65535, "16 bits"
    values = np.asarray(image)
    least, most = values.min(), values.max()
    margin = _HALF_A_STEP if image.mode == "F" else 0
    if np.isnan(least):
        raise PictureError(file, "holds values that are not a number: fill them in")
    if not (least >= lowest - margin and most <= highest + margin):
        raise PictureError(file, f"holds values from {least:g} to {most:g}; {kind} can be scaled: save it so")
    pixels = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        pixels[start : start + rows] = np.clip(np.rint(part * (255 / highest)), 0, 255)
    if image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = 255 - pixels
    return Image.fromarray(pixels)


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms  # noqa: PLC0415  # an extra

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    return image if converted is None else converted


def _is_torn(file: Path) -> bool:
    """Whether a power cut left the right length and zeros for an end, which decoders take for very dark pixels."""
    content = file.read_bytes()
    if content[-_TORN_TAIL:].strip(b"\0"):
        return False
    if content[:2] != b"\xff\xd8":  # WebP, whose metadata may end in some zeros, too
        return len(content) - len(content.rstrip(b"\0")) > len(content) // 8
    # A JPEG may be followed by padding: it is whole if its end marker comes after the beginning of its pixels.
    return content.find(b"\xff\xd9", _first_scan(content)) < 0


def _first_scan(content: bytes) -> int:
    """Where a JPEG's pixels begin: behind the segments, one of which may hold a preview with an end of its own."""
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at


def _what_it_is(file: Path) -> str:
    """Why Pillow does not know a file, for the kinds that people have."""
    with file.open("rb") as stream:
        head = stream.read(64)
    if not head:
        return "is empty"
    if not head.strip(b"\0"):
        return "holds only zeros: it was never written"
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis"):
        return "is a HEIC picture or a film, which is not read: convert it to JPEG"
    if head[4:8] == b"ftyp":
        return "is damaged"
    return next((words for begins, words in _KNOWN if head.lstrip().startswith(begins)), "is not a picture")


def _why(error: OSError) -> str:
    if error.errno is not None:
        return f"cannot be opened: {error.strerror}"
    text = one_line(error)
    return "is cut short" if "truncated" in text else f"is damaged ({text})"
