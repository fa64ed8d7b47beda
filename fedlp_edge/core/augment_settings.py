"""How devices vary their samples in training: the ``[training.augment]`` table of a fleet's file.

The transforms of pictures are those of ``torchvision.transforms.v2``, with its names, arguments and defaults; only
those are allowed that keep shape and label of a picture. Every number has bounds, since a device takes these settings
from a message.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MAX_TRANSFORMS = 16

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Factor = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Degrees = Annotated[float, msgspec.Meta(ge=0, le=360)]
_Fill = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Pixels = Annotated[int, msgspec.Meta(ge=0, le=1024)]
_Positive = Annotated[float, msgspec.Meta(gt=0, le=100)]


class _Transform(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="name", tag=True):
    """One transform of pictures, with the arguments that ``torchvision.transforms.v2`` has."""


class RandomHorizontalFlip(_Transform, frozen=True, tag=True):
    """Mirrors a picture."""

    p: _Share = 0.5


class RandomVerticalFlip(_Transform, frozen=True, tag=True):
    """Turns a picture upside down."""

    p: _Share = 0.5


class RandomCrop(_Transform, frozen=True, tag=True):
    """Pads a picture on all sides and cuts its size out of that."""

    padding: _Pixels = 4
    padding_mode: Literal["constant", "edge", "reflect", "symmetric"] = "constant"
    fill: _Fill = 0.0


class RandomResizedCrop(_Transform, frozen=True, tag=True):
    """Cuts a part out of a picture and resizes it to the picture's size."""

    scale: tuple[_Positive, _Positive] = (0.08, 1.0)
    ratio: tuple[_Positive, _Positive] = (0.75, 4 / 3)

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1] or self.scale[1] > 1:
            raise ValueError("scale is the smallest and the largest share of the picture, at most 1")
        if self.ratio[0] > self.ratio[1]:
            raise ValueError("ratio is the smallest and the largest ratio of width and height")


class RandomRotation(_Transform, frozen=True, tag=True):
    """Turns a picture by up to some degrees."""

    degrees: _Degrees
    fill: _Fill = 0.0


class RandomAffine(_Transform, frozen=True, tag=True):
    """Turns, moves, resizes and shears a picture."""

    degrees: _Degrees
    translate: tuple[_Share, _Share] | None = None
    scale: tuple[_Positive, _Positive] | None = None
    shear: Annotated[float, msgspec.Meta(ge=0, lt=90)] | None = None
    fill: _Fill = 0.0

    def __post_init__(self) -> None:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError("scale is the smallest and the largest factor")


class RandomPerspective(_Transform, frozen=True, tag=True):
    """Shows a picture from another side."""

    distortion_scale: _Share = 0.5
    p: _Share = 0.5
    fill: _Fill = 0.0


class RandomErasing(_Transform, frozen=True, tag=True):
    """Covers a rectangle of a picture."""

    p: _Share = 0.5
    scale: tuple[_Share, _Share] = (0.02, 0.33)
    ratio: tuple[_Positive, _Positive] = (0.3, 3.3)
    value: _Fill = 0.0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1] or self.ratio[0] > self.ratio[1]:
            raise ValueError("scale and ratio each are the smallest and the largest value")


class ColorJitter(_Transform, frozen=True, tag=True):
    """Changes brightness, contrast, saturation and hue of a picture by up to these factors."""

    brightness: _Factor = 0.0
    contrast: _Factor = 0.0
    saturation: _Factor = 0.0
    hue: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.0


class RandomGrayscale(_Transform, frozen=True, tag=True):
    """Takes the colours out of a picture."""

    p: _Share = 0.1


class GaussianBlur(_Transform, frozen=True, tag=True):
    """Blurs a picture."""

    kernel_size: Annotated[int, msgspec.Meta(ge=1, le=63)]
    sigma: tuple[_Positive, _Positive] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {self.kernel_size}")
        if self.sigma[0] > self.sigma[1]:
            raise ValueError("sigma is the smallest and the largest value")


class GaussianNoise(_Transform, frozen=True, tag=True):
    """Adds noise to a picture, whose values go from 0 to 1."""

    mean: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.0
    sigma: _Share = 0.1


class RandomInvert(_Transform, frozen=True, tag=True):
    """Makes a negative of a picture."""

    p: _Share = 0.5


class RandomSolarize(_Transform, frozen=True, tag=True):
    """Inverts all values of a picture above a threshold from 0 to 1."""

    threshold: _Share
    p: _Share = 0.5


class RandomPosterize(_Transform, frozen=True, tag=True):
    """Leaves so many bits of every value of a picture."""

    bits: Annotated[int, msgspec.Meta(ge=1, le=8)]
    p: _Share = 0.5


class RandomAdjustSharpness(_Transform, frozen=True, tag=True):
    """Blurs a picture with a factor below 1, and sharpens it with one above."""

    sharpness_factor: _Factor
    p: _Share = 0.5


class RandomAutocontrast(_Transform, frozen=True, tag=True):
    """Stretches the values of a picture to the whole range."""

    p: _Share = 0.5


class RandomEqualize(_Transform, frozen=True, tag=True):
    """Equalises the histogram of a picture."""

    p: _Share = 0.5


class RandAugment(_Transform, frozen=True, tag=True):
    """Does some random transforms of one strength (Cubuk et al., arXiv 1909.13719)."""

    num_ops: Annotated[int, msgspec.Meta(ge=1, le=10)] = 2
    magnitude: Annotated[int, msgspec.Meta(ge=0, le=30)] = 9


class TrivialAugmentWide(_Transform, frozen=True, tag=True):
    """Does one random transform of random strength (Müller and Hutter, arXiv 2103.10158)."""


PictureTransform = (
    RandomHorizontalFlip
    | RandomVerticalFlip
    | RandomCrop
    | RandomResizedCrop
    | RandomRotation
    | RandomAffine
    | RandomPerspective
    | RandomErasing
    | ColorJitter
    | RandomGrayscale
    | GaussianBlur
    | GaussianNoise
    | RandomInvert
    | RandomSolarize
    | RandomPosterize
    | RandomAdjustSharpness
    | RandomAutocontrast
    | RandomEqualize
    | RandAugment
    | TrivialAugmentWide
)
"""A transform of pictures [C, H, W]."""


class AugmentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How devices vary their samples in training; nothing is varied by default.

    Attributes:
        transforms: Transforms of pictures [C, H, W], in order.
        jitter: Standard deviation of noise that is added to every value of a window, of that of the data.
        scaling: Standard deviation of a factor around 1 for every channel of a window.
        crop: Smallest share of a window [C, L] that is cut out and stretched to the whole length; 1 for none.
        time_shift: Most steps by which a window [C, L] is moved; the gap has the first or the last value.
    """

    transforms: Annotated[tuple[PictureTransform, ...], msgspec.Meta(max_length=MAX_TRANSFORMS)] = ()
    jitter: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    scaling: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0
    crop: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    time_shift: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def of_windows(self) -> bool:
        """Whether windows are varied."""
        return bool(self.jitter or self.scaling or self.crop < 1 or self.time_shift)
