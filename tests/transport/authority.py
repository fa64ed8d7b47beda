"""A certificate authority of the test's own, with whatever faults certificates have."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONFIG = """
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
serial = serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""

COMPLETE = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash")
ELLIPTIC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Files in one directory.

    Args:
        directory: made if missing.
        extensions: of the authority's own certificate.
    """

    def __init__(self, directory: Path, extensions: tuple[str, ...] = COMPLETE) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.certificate = directory / "ca.pem"
        (directory / "ca.cnf").write_text(CONFIG)
        (directory / "index").write_text("")
        (directory / "serial").write_text("01\n")
        added = [word for extension in extensions for word in ("-addext", extension)]
        files = ("-config", "ca.cnf", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=own authority")
        self._openssl("req", "-x509", *ELLIPTIC, *files, *added)

    def issue(
        self, name: str, *, names: str = "IP:127.0.0.1", first: str = "20200101", last: str = "20990101"
    ) -> tuple[Path, Path]:
        """A server's certificate and its key; ``names`` may be empty, dates are as in ``YYYYMMDD``."""
        extensions = "basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\nauthorityKeyIdentifier=keyid\n"
        (self.directory / "extensions").write_text(extensions + (f"subjectAltName={names}\n" if names else ""))
        key, request, certificate = (self.directory / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        files = ("-keyout", key.name, "-out", request.name)
        self._openssl("req", "-config", "ca.cnf", *ELLIPTIC, *files, "-subj", "/CN=broker")
        dates = ("-startdate", f"{first}000000Z", "-enddate", f"{last}000000Z", "-extfile", "extensions")
        signer = ("-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-notext")
        self._openssl("ca", "-batch", *signer, "-in", request.name, "-out", certificate.name, *dates)
        return certificate, key

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
