"""This module reads pictures for agents, coordinators, simulations and exported models, so that all get equal pixels.

A model that is trained with one picture reader and used with another one is wrong without any error. So every picture
file becomes eight bits a channel here: wider values are scaled by the range of their type, transparent pictures get a
white background, and photographs are turned upright. The module does not import PyTorch.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError, OperatorError
from fedlp_edge.learning.foreign_code import error_line
from fedlp_edge.system.loading.install_command import install_command

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".pnm", ".pbm",
    ".jpe", ".jfif", ".mpo", ".apng", ".avif", ".jp2", ".tga", ".dib",
)  # fmt: skip
"""Suffixes, in lower case, of the files in a folder that count as pictures; the format is read from their content."""

MAX_PIXELS = 100_000_000
"""Most pixels of a decoded picture: 300 MB in colour. A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size."""

_NEED_PILLOW = f"reading pictures needs Pillow: {install_command('vision')}"
_ORIENTATION = 0x0112  # EXIF tag
_BITS_PER_SAMPLE = 258  # TIFF tag
_PHOTOMETRIC = 262  # TIFF tag
_WHITE_IS_ZERO = 0  # value of the TIFF tag
_BLOCK = 1 << 20  # values of more than eight bits that are scaled together
_TRUNCATED_TAIL = 64  # zero bytes at the end of a file that no complete compressed picture has
_HALF_A_STEP = 0.5 / 255
_KNOWN = (
    (b"version https://git-lfs", "is a pointer of Git LFS: fetch the file itself with git lfs pull"),
    (b"<", "is a web page or a drawing (HTML, SVG), not a picture"),
    ((b"II*\0", b"MM\0*"), "is a kind of TIFF that is not read: save it with one or three channels of 8 or 16 bits"),
    ((b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF"), "is damaged"),
)
"""What a file is that Pillow cannot identify, by its first bytes."""
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class PictureFile(Protocol):
    """Gives the contents of an encoded picture: a path, or what stands for one where pictures lie in a table."""

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """Opens the picture for reading."""
        ...

    def read_bytes(self) -> bytes:
        """Returns the whole contents."""
        ...


class PictureError(DataError):
    """Reports one picture that cannot be read.

    Attributes:
        file: The picture.
        reason: What is wrong with the picture, as the end of a sentence that begins with the file's name.
        lost: Whether the file could not be opened, and may come back.
    """

    def __init__(self, file: PictureFile, reason: str, *, lost: bool = False) -> None:
        super().__init__(f"cannot read {display_name(str(file))}: it {reason}")
        self.file = file
        self.reason = reason
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds one picture, decoded and resized for a model.

    Attributes:
        pixels: Pixels, uint8 [channels, height, width].
        stored_size: Width and height of the upright picture before resizing, pixels.
        several_frames: Whether the file holds several frames or pages, of which only the first is used.
    """

    pixels: npt.NDArray[np.uint8]
    stored_size: tuple[int, int]
    several_frames: bool


def require_pillow() -> None:
    """Checks that Pillow is installed, and silences its log.

    Raises:
        OperatorError: Pillow is not installed; the message says what to install.
    """
    try:
        import PIL.Image  # noqa: F401, PLC0415  # an extra
    except ModuleNotFoundError:
        raise OperatorError(_NEED_PILLOW) from None
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # our own errors report bad files


def read_picture(file: PictureFile, channels: int, size: tuple[int, int]) -> Picture:
    """Reads one picture and resizes it without keeping its aspect ratio.

    Args:
        file: Picture of any format that Pillow reads, whatever its suffix.
        channels: 1 for grey, 3 for RGB.
        size: Height and width of the result, pixels.

    Raises:
        PictureError: The file is missing, damaged, cut short, no picture, or too large.
        OperatorError: Pillow is not installed.
    """
    require_pillow()
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  # an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes and metadata; real faults raise errors
        try:
            with file.open("rb") as stream, Image.open(stream) as image:
                return _read(file, image, channels, size)
        except PictureError:
            raise
        except UnidentifiedImageError:
            raise PictureError(file, _unidentified_reason(file)) from None
        except Image.DecompressionBombError:
            raise PictureError(file, "has more pixels than a picture that can be trusted") from None
        except MemoryError:
            raise PictureError(file, "takes more memory than there is") from None
        except OSError as error:
            raise PictureError(file, _os_error_reason(error), lost=error.errno is not None) from None
        except Exception as error:  # decoders raise what they like on damaged files: struct.error, SyntaxError ...
            raise PictureError(file, f"is damaged ({error_line(error)})") from None


def display_name(file: Path | str) -> str:
    """Returns a file's name on one line with unprintable characters escaped, for messages."""
    text = str(file).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _read(file: PictureFile, image: Image.Image, channels: int, size: tuple[int, int]) -> Picture:
    height, width = size
    stored = image.size
    # MPO is a JPEG that a phone extends by a preview or a depth map, so it counts as one picture.
    several = image.format != "MPO" and _has_several_frames(image)
    # JPEGs are decoded at twice the wanted size, which keeps the resizing smooth. The longer side counts for both
    # sides, because the picture may have to be turned.
    enough = 2 * max(height, width)
    image.draft("L" if channels == 1 else "RGB", (enough, enough))
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(file, f"has {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}")
    image.load()
    if image.format in ("JPEG", "MPO", "WEBP") and _is_truncated(file):
        raise PictureError(file, "is cut short: its end was never written")
    flat = _eight_bits(file, image, channels)
    orientation = _orientation(image)
    if orientation in _transpositions():
        flat = flat.transpose(_transpositions()[orientation])
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
    except Exception:  # later frames are damaged, which does not matter
        return True


def _orientation(image: Image.Image) -> Any:
    """Returns the EXIF orientation; unlike ``ImageOps.exif_transpose`` it tolerates other damaged tags."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # the EXIF block is damaged, but the pixels may still be good
        return None


def _transpositions() -> dict[Any, Image.Transpose]:
    """Returns the transposition that turns a picture upright, by EXIF orientation."""
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


def _eight_bits(file: PictureFile, image: Image.Image, channels: int) -> Image.Image:
    """Converts the picture to Pillow's mode ``L`` or ``RGB``."""
    wanted = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _scaled(file, image).convert(wanted)
    if image.mode == "LAB":
        return _from_lab(image).convert(wanted)
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return _on_white_background(image).convert(wanted)
    if image.mode == "P":
        return image.convert("RGB").convert(wanted)
    return image.convert(wanted)


def _on_white_background(image: Image.Image) -> Image.Image:
    """Puts a picture on white, because the colours below transparent pixels are arbitrary."""
    from PIL import Image  # noqa: PLC0415  # an extra

    layer = image.convert("RGBA")
    background = Image.new("RGB", layer.size, "white")
    background.paste(layer, mask=layer.getchannel("A"))
    return background


def _scaled(file: PictureFile, image: Image.Image) -> Image.Image:
    """Scales values of more than eight bits to eight bits, by the range of their type and not of this picture."""
    from PIL import Image  # noqa: PLC0415  # an extra

    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "F":
        lowest, highest, kind = 0.0, 1.0, "floating point from 0 to 1"
    elif tags.get(_BITS_PER_SAMPLE) in (12, (12,)):
        lowest, highest, kind = 0, 4095, "12 bits"
    else:  # depending on the format, Pillow returns 16 bits as 32
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


def _is_truncated(file: PictureFile) -> bool:
    """Tells whether the end of a file was never written.

    After a power cut a file can have its full length but end in zeros, which decoders show as dark pixels.
    """
    content = file.read_bytes()
    if content[-_TRUNCATED_TAIL:].strip(b"\0"):
        return False
    if content[:2] != b"\xff\xd8":  # a WebP file, whose metadata may end in a few zeros
        return len(content) - len(content.rstrip(b"\0")) > len(content) // 8
    # Padding may follow a JPEG, so it is whole if its end marker comes somewhere after the start of its pixels.
    return content.find(b"\xff\xd9", _first_scan(content)) < 0


def _first_scan(content: bytes) -> int:
    """Returns the offset of a JPEG's pixels, after its segments, which may hold a preview with an end marker."""
    at = 2
    while content[at : at + 1] == b"\xff" and content[at + 1 : at + 2] != b"\xda":
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at


def _unidentified_reason(file: PictureFile) -> str:
    """Explains why Pillow cannot identify a file, for common kinds of files."""
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
    return next((reason for begins, reason in _KNOWN if head.lstrip().startswith(begins)), "is not a picture")


def _os_error_reason(error: OSError) -> str:
    if error.errno is not None:
        return f"cannot be opened: {error.strerror}"
    text = error_line(error)
    return "is cut short" if "truncated" in text else f"is damaged ({text})"
