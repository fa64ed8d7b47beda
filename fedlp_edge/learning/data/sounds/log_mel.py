"""This module reads sound files and turns them into log-mel spectrograms, with numpy and SciPy alone."""

from __future__ import annotations

import io
import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.data_spec import SoundOptions
from fedlp_edge.learning.foreign_code import error_line
from fedlp_edge.system.loading.install_command import install_command

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph"),
)
"""Suffixes, in lower case, of the files in a folder that count as sounds; all but ``.wav`` need soundfile."""

MEAN, STD = -6.0, 4.0
"""Constants that bring log-mel values, from about -14 (silence) to 3, to the range that networks expect."""

_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.01
_FLOOR = 1e-6  # energy of silence
_LOUDEST = 64.0  # of floating point, whose full scale is 1: what is louder was written in units of whole numbers
_UNKNOWN_LENGTH = 0x7FFFFF00  # from this length on, a header was written before the length was known, as by a stream
_HEAD_BYTES = 256  # in which a WAV file's length stands

Sound = npt.NDArray[np.float32]


class SoundFile(Protocol):
    """Gives the contents of an encoded sound: a path, or what stands for one where sounds lie in a table."""

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """Opens the sound for reading."""
        ...

    def read_bytes(self) -> bytes:
        """Returns the whole contents."""
        ...


class SoundError(DataError):
    """Reports one sound that cannot be read.

    Attributes:
        reason: What is wrong with it, as the end of a sentence that begins with the file's name.
        lost: Whether the file could not be opened, and may come back.
    """

    def __init__(self, file: SoundFile, reason: str, *, lost: bool = False) -> None:
        super().__init__(f"cannot read {file}: it {reason}")
        self.reason = reason
        self.lost = lost


def shape_of(options: SoundOptions) -> tuple[int, int, int]:
    """Returns the shape of a sample: one channel, frequency bands, and steps of 10 milliseconds."""
    hop = round(_HOP_SECONDS * options.rate)
    return 1, options.mels, 1 + round(options.seconds * options.rate) // hop


def read_log_mel(file: SoundFile, options: SoundOptions) -> Sound:
    """Reads a sound, mixes its channels, converts it to the rate and length that are wanted, and transforms it.

    Returns:
        Logarithm of the energy by frequency band and time, float32 [1, mels, frames].

    Raises:
        SoundError: The file is damaged or of a kind that is not read.
    """
    rate, wave = _read(file)
    if not np.isfinite(wave).all():
        raise SoundError(file, "holds values that are not finite")
    if rate != options.rate:
        from scipy.signal import resample_poly  # noqa: PLC0415 - an extra

        common = int(np.gcd(rate, options.rate))
        wave = resample_poly(wave[: int(rate * (options.seconds + 1))], options.rate // common, rate // common)
    length = round(options.seconds * options.rate)
    wave = np.asarray(wave[:length], np.float32)
    return log_mel(np.pad(wave, (0, length - len(wave))), options)


def log_mel(wave: Sound, options: SoundOptions) -> Sound:
    """Returns the log-mel spectrogram of a sound, float32 [1, mels, frames].

    Args:
        wave: Samples from -1 to 1, float32 [rate * seconds].
        options: Rate and number of bands.
    """
    size, hop = round(_WINDOW_SECONDS * options.rate), round(_HOP_SECONDS * options.rate)
    points = 1 << (size - 1).bit_length()
    padded = np.pad(wave, (points // 2, points // 2), mode="reflect" if len(wave) > points // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, points)[::hop][: shape_of(options)[2]]
    window = np.zeros(points, np.float32)
    window[(points - size) // 2 :][:size] = np.hanning(size)
    energy = np.square(np.abs(np.fft.rfft(frames * window, axis=1)))
    made: Sound = np.log(energy @ _bands(options.rate, points, options.mels).T + _FLOOR).astype(np.float32)
    return np.ascontiguousarray(made.T[None])


@lru_cache(maxsize=4)
def _bands(rate: int, points: int, mels: int) -> npt.NDArray[np.float64]:
    """Returns triangular filters that are equally wide on the mel scale (O'Shaughnessy 1987), [mels, bins]."""
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    centres = 700 * (10 ** (np.linspace(0, highest, mels + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, points // 2 + 1)
    below, centre, above = centres[:-2, None], centres[1:-1, None], centres[2:, None]
    rising, falling = (frequencies - below) / (centre - below), (above - frequencies) / (above - centre)
    return np.maximum(0, np.minimum(rising, falling))


def _read_wave(file: SoundFile) -> tuple[int, npt.NDArray[Any]] | None:
    """Returns rate and samples of a WAV file; None for soundfile to read it: compressed (mu-law, A-law), or no WAV."""
    from scipy.io import wavfile  # noqa: PLC0415 - an extra

    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        if not head:
            raise SoundError(file, "is empty")
        if not head.strip(b"\0"):
            raise SoundError(file, "holds only zeros: it was never written")
        if head[:4] not in (b"RIFF", b"RIFX", b"RF64"):
            return None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", wavfile.WavFileWarning)
            rate, values = wavfile.read(_with_length(file, head) or _named_or_open(file))
    except OSError as error:
        raise SoundError(file, f"cannot be opened: {error.strerror}", lost=True) from None
    except SoundError:
        raise
    except Exception as error:  # struct.error, ValueError and others, as the damage wills
        if "Unknown wave file format" in str(error):
            return None
        raise SoundError(file, f"is damaged or no WAV file ({error_line(error)})") from None
    for warning in said:
        expected = re.search(r"EOF prematurely.*expected (\d+) bytes", str(warning.message))
        if expected is not None and int(expected[1]) < _UNKNOWN_LENGTH:
            raise SoundError(file, "is cut short")
    return int(rate), values


def _with_length(file: SoundFile, head: bytes) -> io.BytesIO | None:
    """Returns a WAV file with its length in its header, if the header says 0; None if it does not.

    A recorder writes the length when it ends: one that was killed, or lost its power, leaves the samples behind a 0.
    """
    form, data = head.find(b"fmt "), head.find(b"data")
    if head[:4] != b"RIFF" or not 0 <= form < data or any(head[data + 4 : data + 8]):
        return None
    content = bytearray(file.read_bytes())
    frame = max(1, int.from_bytes(content[form + 20 : form + 22], "little"))
    length = (len(content) - data - 8) // frame * frame
    content[data + 4 : data + 8] = length.to_bytes(4, "little")
    content[4:8] = (data + length).to_bytes(4, "little")
    return io.BytesIO(content)


def _named_or_open(file: SoundFile) -> Path | IO[bytes]:
    """Returns a path as it is, which decoders open themselves, and anything else open."""
    return file if isinstance(file, Path) else file.open("rb")


def _read(file: SoundFile) -> tuple[int, npt.NDArray[Any]]:
    """Returns the rate of a sound, and its samples from -1 to 1 as one channel."""
    # What lies in a table has no suffix, and is told by its first bytes.
    read = _read_wave(file) if not isinstance(file, Path) or file.suffix.lower() == ".wav" else None
    if read is not None:
        rate, values = read
    else:
        try:
            import soundfile  # noqa: PLC0415 - an extra

            values, rate = soundfile.read(_named_or_open(file), dtype="float32")
        except ModuleNotFoundError:
            raise SoundError(
                file, f"needs soundfile: {install_command('audio')}, or save it as WAV with PCM samples"
            ) from None
        except Exception as error:  # soundfile's errors share no base with others
            if isinstance(file, Path) and not file.is_file():
                raise SoundError(file, "cannot be opened: it is not there", lost=True) from None
            raise SoundError(file, f"is damaged ({error_line(error)})") from None
    made: npt.NDArray[Any]
    if values.dtype == np.uint8:
        made = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        made = values.astype(np.float32) / float(np.iinfo(values.dtype).max + 1)
    else:
        made = values.astype(np.float32)
    if not len(made):
        raise SoundError(file, "has no samples")
    if values.dtype.kind == "f" and np.abs(made).max() > _LOUDEST:
        raise SoundError(file, f"holds values up to {np.abs(made).max():g}, where floating point goes from -1 to 1")
    return int(rate), made.mean(axis=1) if made.ndim > 1 else made
